/**
 * A small host: answers ARP requests, ICMP echo (ping) and UDP echo (RFC 862) for its addresses. It does not speak IPv6.
 *
 * - All other packets are dropped, and those that a host must not answer (RFC 1122): frames for other hosts, wrong
 *   versions, lengths and header checksums, group or own source addresses, fragments, and packets with IP options (an
 *   echoed source route is an attack).
 * - Datagrams from a port where another service may answer the answer are dropped too: a forged one would never stop
 *   (responders.ts).
 * - ICMP and UDP checksums are updated (RFC 1624) and not made anew, so the reply to a damaged request has a wrong one.
 * - The reply to a frame with VLAN tags has the same tags. Frames keep their length, including padding.
 *
 * Copy from it: a check of the length before the first field is read, so that a bad frame costs a comparison and not an
 * exception; one function per protocol, which changes the packet in place; options that become plain numbers once, and
 * other options at run time.
 *
 * ```ts
 * import { type HandlerContext, type HandlerObject, type Packet } from 'twinpath/handler';
 * import { checksum, DROP, EtherType, Protocol, sumOf, TX, update16 } from 'twinpath/handler';
 * ```
 */
import { checksum, sumOf, update16 } from '../handler/checksum.ts';
import type { HandlerContext, HandlerObject } from '../handler/handler.ts';
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { has, hostAddresses, isHost } from '../net/addresses.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { invalid, wholeNumber } from '../validation.ts';
import { answersArp } from './arp.ts';
import { checkNames, list } from './options.ts';
import { isResponder } from './responders.ts';

/** Bytes of ARP for IPv4 over Ethernet, and of an IPv4 header followed by ICMP echo or UDP. */
const MIN_LENGTH = 28;
const L4_BYTES = 8;
const TTL = 64;

/**
 * @param options `address`: the IPv4 address to answer for ('10.77.0.2'), or an array of them.
 *   `port`: the UDP port that echoes, 1 to 65535; default 7
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, { macs }: HandlerContext): HandlerObject {
  let host = hostOf(options);
  return {
    handle: (burst) => {
      const { addresses, port } = host;
      for (let i = 0; i < burst.length; i++) {
        burst.verdict[i] = answer(burst.packet(i), macs[burst.port[i]!]!, addresses, port);
      }
    },
    configure: (changed) => {
      const next = hostOf(changed);
      return () => {
        host = next;
      };
    },
  };
}

function hostOf(options: Record<string, unknown>): { readonly addresses: Int32Array; readonly port: number } {
  checkNames('echo', options, ['address', 'port']);
  const port = wholeNumber('port', options.port ?? 7, 1, 0xffff, 'a UDP port');
  const addresses = hostAddresses('address', list(options.address));
  if (addresses.length === 0) {
    invalid('address', 'echo answers for no address', "Give it: { address: '10.77.0.2' }.");
  }
  return { addresses, port };
}

function answer(packet: Packet, mac: Uint8Array, addresses: Int32Array, port: number): Verdict {
  if (packet.length < ETHERNET_BYTES + MIN_LENGTH) return DROP;
  const l3 = packet.l3;
  if (packet.length < l3 + MIN_LENGTH) return DROP;
  if ((packet.u8(6) & 1) !== 0 || packet.srcEquals(mac)) return DROP; // a sender is neither a group nor we
  const type = packet.u16(l3 - 2);
  if (type === EtherType.ARP) return answersArp(packet, l3, mac, addresses) ? TX : DROP;
  if (type === EtherType.IPV4 && packet.dstEquals(mac)) return answerIpv4(packet, l3, addresses, port);
  return DROP;
}

function answerIpv4(packet: Packet, l3: number, addresses: Int32Array, port: number): Verdict {
  const total = packet.u16(l3 + 2);
  if (packet.u8(l3) !== 0x45) return DROP; // version 4, no options
  if (total < IPV4_BYTES + L4_BYTES || total > packet.length - l3) return DROP;
  if ((packet.u16(l3 + 6) & 0x3fff) !== 0) return DROP; // a fragment
  const source = packet.u32(l3 + 12);
  const target = packet.u32(l3 + 16);
  if (!has(addresses, target) || !isHost(source) || has(addresses, source)) return DROP;
  if (checksum(sumOf(packet, l3, IPV4_BYTES)) !== 0) return DROP;

  const protocol = packet.u8(l3 + 9);
  const l4 = l3 + IPV4_BYTES;
  if (protocol === Protocol.ICMP) {
    if (!echoIcmp(packet, l4)) return DROP;
  } else if (protocol !== Protocol.UDP || !echoUdp(packet, l4, total - IPV4_BYTES, port)) return DROP;

  // Exchanging the addresses does not change the checksum; the new time to live does.
  packet.setU32(l3 + 12, target);
  packet.setU32(l3 + 16, source);
  const before = packet.u16(l3 + 8);
  const after = (TTL << 8) | protocol;
  packet.setU16(l3 + 8, after);
  packet.setU16(l3 + 10, update16(packet.u16(l3 + 10), before, after));
  packet.swapMacs();
  return TX;
}

/** Turns an echo request (type 8, code 0) into an echo reply (type 0, code 0). */
function echoIcmp(packet: Packet, l4: number): boolean {
  if (packet.u16(l4) !== 0x0800) return false;
  packet.setU16(l4, 0);
  packet.setU16(l4 + 2, update16(packet.u16(l4 + 2), 0x0800, 0));
  return true;
}

/** Exchanges the ports, which does not change the checksum. */
function echoUdp(packet: Packet, l4: number, room: number, port: number): boolean {
  const from = packet.u16(l4);
  const bytes = packet.u16(l4 + 4);
  if (packet.u16(l4 + 2) !== port || from === port || isResponder(from)) return false;
  if (bytes < L4_BYTES || bytes > room) return false;
  packet.setU16(l4, port);
  packet.setU16(l4 + 2, from);
  return true;
}
