/**
 * A small host: answers ARP requests, ICMP echo (ping) and UDP echo (RFC 862) for its addresses.
 *
 * Everything else is dropped, and so is what a host must not answer (RFC 1122): frames for others,
 * wrong versions, lengths and header checksums, group or own source addresses, fragments, and packets
 * with IP options (an echoed source route is an attack). Datagrams from a port where something may answer the answer
 * are dropped, too: one of them, forged, would go round for ever (responders.ts). ICMP and UDP checksums are carried over by
 * RFC 1624, not made anew: a request damaged on the way gets a reply that shows it. Frames with VLAN
 * tags are answered inside the same tags. Frames keep their length, padding included.
 *
 * Copy from it: a lower bound on the length before the first field is read, so that bad frames cost
 * a compare and not an exception; one function per protocol that changes the packet in place and
 * returns its verdict; options turned into plain numbers once.
 *
 * ```ts
 * import { type Handler, type HandlerContext, type Packet } from 'twinpath/handler';
 * import { checksum, DROP, EtherType, Protocol, sumOf, TX, update16 } from 'twinpath/handler';
 * ```
 */
import { checksum, sumOf, update16 } from '../handler/checksum.ts';
import type { Handler, HandlerContext } from '../handler/handler.ts';
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { has, hostAddresses, isHost } from './addresses.ts';
import { answersArp } from './arp.ts';
import { invalid, list, onlyKnown, wholeNumber } from './options.ts';
import { isResponder } from './responders.ts';

/** Bytes of ARP for IPv4 over Ethernet, and of an IPv4 header with either ICMP echo or UDP behind it. */
const MIN_LENGTH = 28;
const L4_BYTES = 8;
const TTL = 64;

/**
 * @param options `address`: the IPv4 address to answer for ('10.77.0.2'), or an array of them.
 *   `port`: the UDP port that echoes, 1 to 65535; default 7
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, { macs }: HandlerContext): Handler {
  onlyKnown('echo', options, ['address', 'port']);
  const port = wholeNumber(options, 'port', { least: 1, most: 0xffff, otherwise: 7, what: 'a UDP port' });
  const addresses = hostAddresses('address', list(options.address));
  if (addresses.length === 0) {
    invalid('address', 'echo answers for no address', "Give it: { address: '10.77.0.2' }.");
  }

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      burst.verdict[i] = answer(burst.packet(i), macs[burst.port[i]!]!, addresses, port);
    }
  };
}

function answer(packet: Packet, mac: Uint8Array, addresses: Int32Array, port: number): Verdict {
  if (packet.length < ETHERNET_BYTES + MIN_LENGTH) return DROP;
  const l3 = packet.l3;
  if (packet.length < l3 + MIN_LENGTH) return DROP;
  if ((packet.u8(6) & 1) !== 0 || packet.srcEquals(mac)) return DROP; // neither a group nor we can have sent it
  const type = packet.u16(l3 - 2);
  if (type === EtherType.ARP) return answersArp(packet, l3, mac, addresses) ? TX : DROP;
  if (type === EtherType.IPV4 && packet.dstEquals(mac)) return answerIpv4(packet, l3, addresses, port);
  return DROP;
}

function answerIpv4(packet: Packet, l3: number, addresses: Int32Array, port: number): Verdict {
  const total = packet.u16(l3 + 2);
  if (packet.u8(l3) !== 0x45) return DROP; // version 4, no options
  if (total < IPV4_BYTES + L4_BYTES || total > packet.length - l3) return DROP;
  if ((packet.u16(l3 + 6) & 0x3fff) !== 0) return DROP; // a fragment: more follow, or some came before
  const source = packet.u32(l3 + 12);
  const target = packet.u32(l3 + 16);
  if (!has(addresses, target) || !isHost(source) || has(addresses, source)) return DROP;
  if (checksum(sumOf(packet, l3, IPV4_BYTES)) !== 0) return DROP;

  const protocol = packet.u8(l3 + 9);
  const l4 = l3 + IPV4_BYTES;
  if (protocol === Protocol.ICMP) {
    if (!turnEcho(packet, l4)) return DROP;
  } else if (protocol !== Protocol.UDP || !turnUdp(packet, l4, total - IPV4_BYTES, port)) return DROP;

  // Exchanging the addresses leaves the sum as it is; a new time to live does not.
  packet.setU32(l3 + 12, target);
  packet.setU32(l3 + 16, source);
  const before = packet.u16(l3 + 8);
  const after = (TTL << 8) | protocol;
  packet.setU16(l3 + 8, after);
  packet.setU16(l3 + 10, update16(packet.u16(l3 + 10), before, after));
  packet.swapMacs();
  return TX;
}

/** Echo request (type 8, code 0) to echo reply (type 0, code 0). */
function turnEcho(packet: Packet, l4: number): boolean {
  if (packet.u16(l4) !== 0x0800) return false;
  packet.setU16(l4, 0);
  packet.setU16(l4 + 2, update16(packet.u16(l4 + 2), 0x0800, 0));
  return true;
}

/** Exchanges the ports: the checksum stays what it was, 0 (none) included. */
function turnUdp(packet: Packet, l4: number, room: number, port: number): boolean {
  const from = packet.u16(l4);
  const bytes = packet.u16(l4 + 4);
  if (packet.u16(l4 + 2) !== port || from === port || isResponder(from)) return false;
  if (bytes < L4_BYTES || bytes > room) return false;
  packet.setU16(l4, port);
  packet.setU16(l4 + 2, from);
  return true;
}
