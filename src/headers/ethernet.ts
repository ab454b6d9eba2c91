/**
 * Writes Ethernet headers and VLAN tags into a packet. Each function returns the position after what it has written, so that
 * calls follow one another. Allocates nothing; worker thread. A header that does not fit the packet throws a RangeError.
 */
import type { PacketView } from '../handler/packet-view.ts';
import { ETHERNET_BYTES, EtherType, VLAN_TAG_BYTES } from '../net/ethernet.ts';

/** Copies: V8 loads and checks an imported value with each use. */
const HEADER = ETHERNET_BYTES;
const TAG = VLAN_TAG_BYTES;
const { SERVICE_VLAN } = EtherType;
const MAC = 6;

/** Bytes of an Ethernet header with so many VLAN tags. */
export function ethernetBytes(tags = 0): number {
  return HEADER + TAG * tags;
}

/**
 * Writes an Ethernet header at the packet's start. If a VLAN tag follows, `type` is `EtherType.VLAN`.
 *
 * @param destination six bytes
 * @param source six bytes
 * @param type the EtherType
 * @returns 14
 */
export function writeEthernet(
  packet: PacketView,
  destination: Uint8Array,
  source: Uint8Array,
  type: number,
): number {
  packet.write(0, destination);
  packet.write(MAC, source);
  packet.setU16(HEADER - 2, type);
  return HEADER;
}

/**
 * Writes the rest of a VLAN tag (IEEE 802.1Q), whose type is in the two bytes before `at`.
 *
 * @param at the position that `writeEthernet` or the tag before has returned
 * @param control priority (3 bits), drop eligible (1), VLAN ID (12)
 * @param type the EtherType after the tag
 * @returns `at` + 4
 * @throws RangeError also if the two bytes before are not the type of a tag
 */
export function writeVlanTag(packet: PacketView, at: number, control: number, type: number): number {
  const before = packet.u16(at - 2);
  if (before !== EtherType.VLAN && before !== SERVICE_VLAN) {
    throw new RangeError(`the type before ${at} is 0x${before.toString(16)}, not that of a VLAN tag`);
  }
  packet.setU16(at, control);
  packet.setU16(at + 2, type);
  return at + TAG;
}
