/** Writes ICMP and ICMPv6 headers into a packet. Allocates nothing; worker thread. What does not fit throws a RangeError. */
import { checksum, sumOf } from '../handler/checksum.ts';
import type { Packet } from '../handler/packet.ts';
import { pseudoHeaderSum } from '../net/checksum.ts';
import { Protocol } from '../net/ip.ts';

const ICMP_BYTES = 8;

/**
 * Writes the first 8 bytes of a message of ICMP (RFC 792) or ICMPv6 (RFC 4443), without a checksum.
 *
 * @param rest the second 32 bits: identifier and sequence number of an echo, the MTU of "too big"
 * @returns `at` + 8
 */
export function writeIcmp(packet: Packet, at: number, type: number, code: number, rest: number): number {
  packet.setU8(at, type);
  packet.setU8(at + 1, code);
  packet.setU16(at + 2, 0);
  packet.setU32(at + 4, rest);
  return at + ICMP_BYTES;
}

/**
 * Computes and writes the checksum of the message at `l4`: that of ICMPv6 covers the addresses too.
 *
 * @param ip position of the IPv4 or IPv6 header
 * @param bytes of the message
 */
export function writeIcmpChecksum(packet: Packet, ip: number, l4: number, bytes: number): void {
  let pseudo = 0;
  if (packet.u8(ip) >> 4 === 6) {
    packet.u8(ip + 39); // throws if the addresses are not in the packet
    pseudo = bytes + pseudoHeaderSum(packet.view, packet.offset + ip, 6, Protocol.ICMPV6);
  }
  packet.setU16(l4 + 2, 0);
  packet.setU16(l4 + 2, checksum(sumOf(packet, l4, bytes, pseudo)));
}
