/**
 * Writes TCP and UDP headers into a packet, and their checksums once the payload is there. Allocates nothing; worker thread.
 * What does not fit the packet throws a RangeError.
 */
import { checksum, sumOf } from '../handler/checksum.ts';
import type { Packet } from '../handler/packet.ts';
import { pseudoHeaderSum } from '../net/checksum.ts';
import { TcpFlag as Flags } from '../net/headers.ts';
import { Protocol } from '../net/ip.ts';

/** Bytes of the headers, of TCP without options. */
export const TCP_BYTES = 20;
export const UDP_BYTES = 8;

/** Bits of the TCP flags (RFC 9293, RFC 3168). */
export const TcpFlag = { ...Flags, SYN: 0x02, RST: 0x04, URG: 0x20 } as const;

/** Copies: V8 loads and checks an imported value with each use. */
const { TCP, UDP } = Protocol;
const TCP_HEADER = TCP_BYTES;
const UDP_HEADER = UDP_BYTES;
const MOST = 0xffff;

/**
 * Writes a UDP header. Its checksum is 0: over IPv4 a datagram may stay so, over IPv6 not (RFC 8200, 8.1).
 *
 * @param payload bytes after the header
 * @returns `at` + 8
 */
export function writeUdp(packet: Packet, at: number, from: number, to: number, payload: number): number {
  const bytes = UDP_HEADER + payload;
  if (payload < 0 || bytes > MOST) throw new RangeError(`${payload} bytes do not fit a datagram`);
  packet.setU16(at, from);
  packet.setU16(at + 2, to);
  packet.setU16(at + 4, bytes);
  packet.setU16(at + 6, 0);
  return at + UDP_HEADER;
}

/**
 * Writes a TCP header without a checksum.
 *
 * @param sequence 32 bits, signed or not
 * @param acknowledgment likewise
 * @param flags bits of {@link TcpFlag}
 * @param window 16 bits
 * @param options bytes of options that the caller writes after the header: 0 to 40, a multiple of 4
 * @returns `at` + 20
 */
export function writeTcp(
  packet: Packet,
  at: number,
  from: number,
  to: number,
  sequence: number,
  acknowledgment: number,
  flags: number,
  window: number,
  options = 0,
): number {
  if ((options & 3) !== 0 || options < 0 || options > 40) {
    throw new RangeError(`${options} bytes of options do not fit a TCP header`);
  }
  packet.setU16(at, from);
  packet.setU16(at + 2, to);
  packet.setU32(at + 4, sequence);
  packet.setU32(at + 8, acknowledgment);
  packet.setU8(at + 12, ((TCP_HEADER + options) >> 2) << 4);
  packet.setU8(at + 13, flags);
  packet.setU16(at + 14, window);
  packet.setU32(at + 16, 0);
  return at + TCP_HEADER;
}

/**
 * Computes and writes the checksum of the datagram at `l4`, whose header has its length. Never 0, which means no checksum.
 *
 * @param ip position of the IPv4 or IPv6 header, whose addresses the checksum covers
 */
export function writeUdpChecksum(packet: Packet, ip: number, l4: number): void {
  const result = transportChecksum(packet, ip, l4, packet.u16(l4 + 4), UDP, 6);
  packet.setU16(l4 + 6, result === 0 ? 0xffff : result);
}

/**
 * Computes and writes the checksum of the segment at `l4`.
 *
 * @param ip position of the IPv4 or IPv6 header, whose addresses the checksum covers
 * @param bytes of the segment: header, options and payload
 */
export function writeTcpChecksum(packet: Packet, ip: number, l4: number, bytes: number): void {
  packet.setU16(l4 + 16, transportChecksum(packet, ip, l4, bytes, TCP, 16));
}

/** @param field position of the checksum in the header; its content does not count */
function transportChecksum(
  packet: Packet,
  ip: number,
  l4: number,
  bytes: number,
  protocol: number,
  field: number,
): number {
  const version = packet.u8(ip) >> 4;
  packet.u8(ip + (version === 4 ? 19 : 39)); // throws if the addresses are not in the packet
  packet.setU16(l4 + field, 0);
  const pseudo = pseudoHeaderSum(packet.view, packet.offset + ip, version, protocol);
  return checksum(sumOf(packet, l4, bytes, pseudo + bytes));
}
