/**
 * A small host: answers ARP requests, ICMP echo (ping) and UDP echo (RFC 862) for its addresses.
 *
 * Everything else is dropped, and so is what a host must not answer (RFC 1122): frames for others,
 * wrong versions, lengths and header checksums, group or own source addresses, fragments, and packets
 * with IP options (an echoed source route is an attack). ICMP and UDP checksums are carried over by
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
import { isIPv4 } from 'node:net';
import { checksum, sumOf, update16 } from '../datapath/checksum.ts';
import type { Handler, HandlerContext } from '../datapath/handler.ts';
import { ETHERNET_BYTES, EtherType, type Packet, Protocol } from '../datapath/packet.ts';
import { DROP, TX, type Verdict } from '../datapath/verdict.ts';
import { TwinpathError } from '../errors.ts';

/** Bytes of ARP for IPv4 over Ethernet, and of an IPv4 header with either ICMP echo or UDP behind it. */
const SHORTEST = 28;
const IPV4_BYTES = 20;
const L4_BYTES = 8;
const TTL = 64;

/**
 * @param options `address`: the IPv4 address to answer for ('10.77.0.2'), or an array of them.
 *   `port`: the UDP port that echoes, 1 to 65535; default 7
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>, { macs }: HandlerContext): Handler {
  const { address, port = 7, ...rest } = options;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    throw new TwinpathError('ERR_OPTION_UNKNOWN', {
      device: unknown,
      hint: "echo has 'address' and 'port'.",
    });
  }
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 0xffff) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: 'port',
      detail: `${String(port)} is not a UDP port`,
      hint: 'Give a number from 1 to 65535.',
    });
  }
  const addresses = addressesOf(address);

  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      burst.verdict[i] = answer(burst.packet(i), macs[burst.port[i]!]!, addresses, port);
    }
  };
}

function answer(packet: Packet, mac: Uint8Array, addresses: Int32Array, port: number): Verdict {
  if (packet.length < ETHERNET_BYTES + SHORTEST) return DROP;
  const l3 = packet.l3;
  if (packet.length < l3 + SHORTEST) return DROP;
  if ((packet.u8(6) & 1) !== 0) return DROP; // a group cannot have sent it
  const type = packet.u16(l3 - 2);
  if (type === EtherType.ARP) {
    return packet.isGroup || packet.dstEquals(mac) ? answerArp(packet, l3, mac, addresses) : DROP;
  }
  if (type === EtherType.IPV4 && packet.dstEquals(mac)) return answerIpv4(packet, l3, addresses, port);
  return DROP;
}

/** RFC 826: "who has target, tell sender" becomes "sender is at mac, tell target". */
function answerArp(packet: Packet, l3: number, mac: Uint8Array, addresses: Int32Array): Verdict {
  const forIpv4OverEthernet = packet.u32(l3) === 0x0001_0800 && packet.u16(l3 + 4) === 0x0604;
  if (!forIpv4OverEthernet || packet.u16(l3 + 6) !== 1) return DROP;
  const sender = packet.u32(l3 + 14);
  const target = packet.u32(l3 + 24);
  // Another host that announces the address as its own is not asking.
  if (sender === target || !has(addresses, target)) return DROP;

  packet.setU16(l3 + 6, 2);
  packet.setU32(l3 + 18, packet.u32(l3 + 8));
  packet.setU16(l3 + 22, packet.u16(l3 + 12));
  packet.setU32(l3 + 24, sender);
  packet.write(l3 + 8, mac);
  packet.setU32(l3 + 14, target);
  packet.swapMacs();
  packet.write(6, mac); // the request was to everybody
  return TX;
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
  // Two echo ports would play for ever, and nobody can answer port 0.
  if (packet.u16(l4 + 2) !== port || from === port || from === 0) return false;
  if (bytes < L4_BYTES || bytes > room) return false;
  packet.setU16(l4, port);
  packet.setU16(l4 + 2, from);
  return true;
}

/** Whether one host may have this address: not 0/8, 127/8, multicast or above. */
function isHost(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** A loop, as there are few: a Set would box addresses above 2^31. */
function has(addresses: Int32Array, address: number): boolean {
  for (let i = 0; i < addresses.length; i++) if (addresses[i] === (address | 0)) return true;
  return false;
}

function addressesOf(option: unknown): Int32Array {
  const texts: unknown = typeof option === 'string' ? [option] : option;
  if (!Array.isArray(texts) || texts.length === 0) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: 'address',
      detail: 'echo answers for no address',
      hint: "Give the address to answer for: { address: '10.77.0.2' }.",
    });
  }
  return Int32Array.from(texts, addressOf);
}

function addressOf(text: unknown): number {
  const address = typeof text === 'string' && isIPv4(text) ? text.split('.') : [];
  const number = address.reduce((high, byte) => (high << 8) | Number(byte), 0);
  if (address.length === 0 || !isHost(number)) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: 'address',
      detail: `${String(text)} is not the IPv4 address of a host`,
      hint: "Give it as '10.77.0.2'.",
    });
  }
  return number;
}
