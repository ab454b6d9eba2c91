/**
 * Adjusts a checksum in the packet for a field that changes (RFC 1624, equation 3): the cost does not depend on the packet's
 * length, and a packet that arrived damaged keeps a wrong checksum. An address of a TCP packet is covered by two checksums, of
 * which each is adjusted. Allocates nothing; worker thread. A position outside the packet throws a RangeError.
 */
import type { PacketView } from '../handler/packet-view.ts';
import { update16, update32 } from '../net/checksum.ts';

/**
 * Adjusts the checksum at `check` for a 16-bit field that changes from `before` to `after`.
 *
 * @param check position of the checksum
 */
export function adjust16(packet: PacketView, check: number, before: number, after: number): void {
  packet.setU16(check, update16(packet.u16(check), before, after));
}

/** The same for a 32-bit field at an even position, such as an IPv4 address. Both values may be signed. */
export function adjust32(packet: PacketView, check: number, before: number, after: number): void {
  packet.setU16(check, update32(packet.u16(check), before, after));
}

/** {@link adjust16} for the checksum of UDP: 0 is no checksum and stays 0, and no other becomes 0 (RFC 768). */
export function adjustUdp16(packet: PacketView, check: number, before: number, after: number): void {
  const old = packet.u16(check);
  if (old !== 0) packet.setU16(check, update16(old, before, after) || 0xffff);
}

/** {@link adjust32} for the checksum of UDP. */
export function adjustUdp32(packet: PacketView, check: number, before: number, after: number): void {
  const old = packet.u16(check);
  if (old !== 0) packet.setU16(check, update32(old, before, after) || 0xffff);
}
