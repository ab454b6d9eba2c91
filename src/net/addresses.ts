/** Addresses from text to numbers and bytes. Any thread; allocates: call it in `create`, and not for packets. */
import { isIPv4, isIPv6 } from 'node:net';
import { invalid } from '../validation.ts';

/** '10.0.0.5' as an unsigned 32-bit number; undefined if it is not an IPv4 address. */
export function ipv4Number(text: string): number | undefined {
  if (!isIPv4(text)) return undefined;
  return text.split('.').reduce((high, byte) => (high << 8) | Number(byte), 0) >>> 0;
}

/** '2001:db8::1' as 16 bytes; undefined if it is not an IPv6 address, or has a zone ('%eth0'). */
export function ipv6Bytes(text: string): Uint8Array | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  // The URL parser turns a dotted end (::ffff:10.0.0.1) into groups and leaves at most one '::'.
  const [head = '', tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...front, ...Array(8 - front.length - back.length).fill('0'), ...back];
  return Uint8Array.from(
    groups.flatMap((group) => [Number.parseInt(group, 16) >> 8, Number.parseInt(group, 16)]),
  );
}

/** Bytes in network order as signed 32-bit words, to compare with `packet.u32(at) | 0`. */
export function wordsOf(bytes: Uint8Array): Int32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Int32Array.from({ length: bytes.length / 4 }, (_, i) => view.getInt32(4 * i));
}

/** Whether a host may have this IPv4 address (RFC 1122, 3.2.1.3): not 0/8, 127/8, multicast or above. */
export function isHost(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** A loop, because lists are short, and a Set would box addresses above 2^31. */
export function has(addresses: Int32Array, address: number): boolean {
  for (let i = 0; i < addresses.length; i++) if (addresses[i] === (address | 0)) return true;
  return false;
}

/**
 * The IPv4 addresses in an option, each of which must be a host's.
 *
 * @throws TwinpathError ERR_OPTION_INVALID
 */
export function hostAddresses(option: string, texts: readonly unknown[]): Int32Array {
  return Int32Array.from(texts, (text) => {
    const address = typeof text === 'string' ? ipv4Number(text) : undefined;
    if (address !== undefined && isHost(address)) return address;
    return invalid(option, `${String(text)} is not the IPv4 address of a host`, "Give it as '10.77.0.2'.");
  });
}
