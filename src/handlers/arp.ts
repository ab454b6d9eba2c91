/** Answers ARP requests for IPv4 addresses (RFC 826), for handlers that have addresses of their own. */
import type { Packet } from '../handler/packet.ts';
import { EtherType } from '../net/ethernet.ts';
import { has } from './addresses.ts';

const ARP_BYTES = 28;

/**
 * Turns "who has target, tell sender" into "sender is at mac, tell target", if it asks for one of the
 * addresses; false, and nothing is changed, for every other packet.
 *
 * @param l3 what `packet.l3` is
 */
export function answersArp(packet: Packet, l3: number, mac: Uint8Array, addresses: Int32Array): boolean {
  if (packet.length < l3 + ARP_BYTES || packet.u16(l3 - 2) !== EtherType.ARP) return false;
  if (!packet.isGroup && !packet.dstEquals(mac)) return false;
  if ((packet.u8(6) & 1) !== 0 || packet.srcEquals(mac)) return false; // neither a group nor we can have sent it
  const forIpv4OverEthernet = packet.u32(l3) === 0x0001_0800 && packet.u16(l3 + 4) === 0x0604;
  if (!forIpv4OverEthernet || packet.u16(l3 + 6) !== 1) return false;
  const sender = packet.u32(l3 + 14);
  const target = packet.u32(l3 + 24);
  // Another host that announces the address as its own is not asking.
  if (sender === target || !has(addresses, target)) return false;

  packet.setU16(l3 + 6, 2);
  packet.setU32(l3 + 18, packet.u32(l3 + 8));
  packet.setU16(l3 + 22, packet.u16(l3 + 12));
  packet.setU32(l3 + 24, sender);
  packet.write(l3 + 8, mac);
  packet.setU32(l3 + 14, target);
  packet.swapMacs();
  packet.write(6, mac); // the request was to everybody
  return true;
}
