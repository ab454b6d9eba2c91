/**
 * The one's complement sum of RFC 1071 over the shared memory, and the checksum made of it.
 *
 * A sum is built in pieces (`sum`) and turned into a checksum once (`checksum`). Over bytes that include a
 * correct checksum field the result is 0, which is how a receiver verifies. All pieces but the last must have
 * an even number of bytes; one that follows an odd number is added with its bytes swapped (`swap16`). A total
 * stays below 2^32 for as long as its pieces add up to 65535 bytes, the most that IP knows.
 *
 * 0 and 0xffff are the same number in one's complement: a sum is only 0 if every byte is.
 *
 * Allocates nothing; any thread.
 */
import { Ipv4Field } from './ipv4.ts';
import { Ipv6Field } from './ipv6.ts';

/** Copies: V8 loads and checks what is imported with every use. */
const ADDRESSES4 = Ipv4Field.ADDRESSES;
const ADDRESSES6 = Ipv6Field.ADDRESSES;

/** A sum below 2^32, carried round into 16 bits. */
export function fold(total: number): number {
  // Once for the carries of the sum, once for the carry of that.
  const once = (total & 0xffff) + (total >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** A folded sum of bytes that start at an odd distance, as it counts in the whole (RFC 1071, section 2 (B)). */
function swap16(folded: number): number {
  return ((folded & 0xff) << 8) | (folded >>> 8);
}

/** The checksum of a sum: folded to 16 bits and complemented. */
export function checksum(total: number): number {
  return ~fold(total) & 0xffff;
}

/**
 * Adds `count` bytes of `view`, 131072 at most, to the sum `start`; an odd last byte counts as the high half
 * of a word.
 *
 * For headers, and where there is no {@link RingOperations}, whose `sum` takes a sixth of the time for a whole frame.
 *
 * Loads words as the machine orders them and swaps the folded sum once. 1448 bytes take 160 to 175 ns on Node
 * 20; loading them big-endian takes 260, a Uint16Array 200 to 400, and an Int32Array, which must be led up to its
 * alignment first, saves 5. Two adds a word: of all 32 bits, which wrap, and of the high halves, which do not.
 */
export function sum(view: DataView, at: number, count: number, start = 0): number {
  const end = at + count;
  let all = 0;
  let high = 0;
  let i = at;
  for (; i <= end - 16; i += 16) {
    const a = view.getInt32(i, true);
    const b = view.getInt32(i + 4, true);
    const c = view.getInt32(i + 8, true);
    const d = view.getInt32(i + 12, true);
    all = (all + a + b + c + d) | 0;
    high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
  }
  for (; i <= end - 4; i += 4) {
    const word = view.getInt32(i, true);
    all = (all + word) | 0;
    high = (high + (word >>> 16)) | 0;
  }
  if (i <= end - 2) {
    all = (all + view.getUint16(i, true)) | 0;
    i += 2;
  }
  if (i < end) all = (all + view.getUint8(i)) | 0;
  // all = low + (high << 16), modulo 2^32, and low is less than that.
  const low = (all - (high << 16)) | 0;
  return start + swap16(fold(low + high));
}

/**
 * Sum of the pseudo header of the IP packet at `ip` (RFC 9293, RFC 8200) but for the length of what follows, which is to
 * be added.
 *
 * @param version 4 or 6
 */
export function pseudoHeaderSum(view: DataView, ip: number, version: number, protocol: number): number {
  return version === 4 ? sum(view, ip + ADDRESSES4, 8, protocol) : sum(view, ip + ADDRESSES6, 32, protocol);
}
