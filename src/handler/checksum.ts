/**
 * The Internet checksum: the one's complement sum of RFC 1071 and its incremental update, RFC 1624.
 *
 * A sum is built in pieces (`sum`, `sumOf`) and turned into a checksum once (`checksum`). Over bytes that include a correct
 * checksum field the result is 0: so a receiver verifies. All pieces but the last must have an even number of bytes.
 * Together they have at most 65535 bytes, the longest IP packet: then the sum stays below 2^32 without folding in the loop.
 *
 * To change a field of a packet that came with a checksum, use `update16`: it costs less than a new sum, and a packet that
 * arrived damaged keeps a wrong checksum.
 *
 * Allocates nothing; any thread.
 */
import { checksum, sum, update16, update32 } from '../net/checksum.ts';
import { Protocol } from '../net/ip.ts';
import type { Packet } from './packet.ts';

export { checksum, sum, update16, update32 };

/**
 * Adds `count` bytes of the packet to the sum `start`.
 *
 * @throws RangeError if they are not in the packet
 */
export function sumOf(packet: Packet, at: number, count: number, start = 0): number {
  if (at < 0 || count < 0 || at + count > packet.length) {
    throw new RangeError(`${count} bytes at ${at} are not in a packet of ${packet.length} bytes`);
  }
  return sum(packet.view, packet.offset + at, count, start);
}

/**
 * The checksum of the IPv4 header at `l3`, computed without its checksum field.
 *
 * @throws RangeError if the header is not in the packet
 */
export function ipv4Checksum(packet: Packet, l3: number): number {
  const count = (packet.u8(l3) & 15) * 4;
  return checksum(sumOf(packet, l3, 10) + sumOf(packet, l3 + 12, count - 12));
}

/**
 * The checksum of the ICMP message of `count` bytes at `l4`, computed without its checksum field.
 *
 * @throws RangeError if the message is not in the packet
 */
export function icmpChecksum(packet: Packet, l4: number, count: number): number {
  return checksum(sumOf(packet, l4, 2) + sumOf(packet, l4 + 4, count - 4));
}

/**
 * The checksum of the UDP datagram in the IPv4 packet at `l3`, with the pseudo header and without its checksum field. Never
 * 0, which means no checksum (RFC 768).
 *
 * @throws RangeError if the datagram is not in the packet
 */
export function udpChecksum(packet: Packet, l3: number): number {
  const l4 = l3 + (packet.u8(l3) & 15) * 4;
  const count = packet.u16(l4 + 4);
  const pseudo = sumOf(packet, l3 + 12, 8, Protocol.UDP + count);
  const result = checksum(sumOf(packet, l4 + 8, count - 8, pseudo + sumOf(packet, l4, 6)));
  return result === 0 ? 0xffff : result;
}
