/** VXLAN (RFC 7348): Ethernet frames in UDP datagrams. Allocates nothing; worker thread. */
import type { PacketView } from '../handler/packet-view.ts';

/** Bytes of the header between UDP and the inner frame. */
export const VXLAN_BYTES = 8;
/** The UDP port that IANA has assigned. */
export const VXLAN_PORT = 4789;

/** The flag that says that there is a VNI. */
const HAS_VNI = 0x0800_0000;

/**
 * Writes a VXLAN header.
 *
 * @param vni the network's identifier, 24 bits
 * @returns `at` + 8
 * @throws RangeError if it does not fit the packet
 */
export function writeVxlan(packet: PacketView, at: number, vni: number): number {
  packet.setU32(at, HAS_VNI);
  packet.setU32(at + 4, (vni & 0xffffff) << 8);
  return at + VXLAN_BYTES;
}

/**
 * The VNI of the VXLAN header at `at`; -1 if the header has none. Other flags and the reserved fields are ignored, as RFC 7348
 * asks of a receiver.
 *
 * @throws RangeError if the header is not in the packet
 */
export function vxlanVni(packet: PacketView, at: number): number {
  return (packet.u32(at) & HAS_VNI) === 0 ? -1 : packet.u32(at + 4) >>> 8;
}
