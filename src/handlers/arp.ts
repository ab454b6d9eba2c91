/** Answers ARP requests for IPv4 addresses (RFC 826), for handlers that have addresses of their own. */
import type { Packet } from '../handler/packet.ts';
import { has } from '../net/addresses.ts';
import { EtherType } from '../net/ethernet.ts';

const ARP_BYTES = 28;
/** Hardware type 1, which is Ethernet, and protocol type. */
const IPV4_OVER_ETHERNET = 0x0001_0000 | EtherType.IPV4;

/**
 * Turns the request "who has target, tell sender" into the reply "target is at mac", if target is one of the addresses.
 *
 * @param l3 `packet.l3`
 * @returns false for any other packet, which stays unchanged
 */
export function answersArp(packet: Packet, l3: number, mac: Uint8Array, addresses: Int32Array): boolean {
  if (packet.length < l3 + ARP_BYTES || packet.u16(l3 - 2) !== EtherType.ARP) return false;
  if (!packet.isGroup && !packet.dstEquals(mac)) return false;
  if ((packet.u8(6) & 1) !== 0 || packet.srcEquals(mac)) return false; // a sender is neither a group nor we
  const forIpv4OverEthernet = packet.u32(l3) === IPV4_OVER_ETHERNET && packet.u16(l3 + 4) === 0x0604;
  if (!forIpv4OverEthernet || packet.u16(l3 + 6) !== 1) return false;
  const sender = packet.u32(l3 + 14);
  const target = packet.u32(l3 + 24);
  // An announcement: another host claims the address.
  if (sender === target || !has(addresses, target)) return false;

  packet.setU16(l3 + 6, 2);
  packet.setU32(l3 + 18, packet.u32(l3 + 8));
  packet.setU16(l3 + 22, packet.u16(l3 + 12));
  packet.setU32(l3 + 24, sender);
  packet.write(l3 + 8, mac);
  packet.setU32(l3 + 14, target);
  packet.swapMacs();
  packet.write(6, mac); // the request was a broadcast
  return true;
}
