/** The first layer of a packet, by its link type: https://www.tcpdump.org/linktypes.html. */
import { EthernetAddr, SLLAddr } from './addresses.ts';
import { Arp } from './control.ts';
import { IPv4, IPv6 } from './ip.ts';
import { bytesOf, type Emitter, inner, type Span, shown } from './layer.ts';

const ETHERNET_BYTES = 14;
const TAG_BYTES = 4;
const NULL_BYTES = 4;
const SLL_BYTES = 16;
const SLL_ADDRESS = 8;
/** Below it, the type of an Ethernet header is a length (IEEE 802.3). */
const LEAST_TYPE = 1536;
/** The values of BSD systems for IPv6, which differ. */
const NULL_IPV6 = new Set([24, 28, 30]);
const NULL_IPV4 = 2;

const Type = { IPV4: 0x0800, ARP: 0x0806, VLAN: 0x8100, IPV6: 0x86dd, LLDP: 0x88cc } as const;
const NAMES: Readonly<Record<number, string>> = {
  [Type.IPV4]: 'IPv4',
  [Type.ARP]: 'ARP',
  [Type.IPV6]: 'IPv6',
  [Type.LLDP]: 'LLDP',
};

/** null: of a type that is not decoded, or cut. */
type LinkPayload = IPv4 | IPv6 | Arp | string | null;

function payloadOf(type: number, span: Span, emitter: Emitter): LinkPayload {
  switch (type) {
    case Type.IPV4:
      return IPv4.read(span, emitter);
    case Type.IPV6:
      return IPv6.read(span, emitter);
    case Type.ARP:
      return Arp.read(span, emitter);
    case Type.LLDP:
      return 'need to implement LLDP';
    default:
      return null;
  }
}

const shownType = (type: number, payload: LinkPayload): string =>
  `${NAMES[type] ?? `ethertype ${type}`} ${shown(payload)}`;

/** A tag of IEEE 802.1Q: the outermost one. */
export class Vlan {
  readonly priority: number;
  readonly canonical_format: number;
  readonly id: number;

  constructor(word: number) {
    this.priority = word >> 13;
    this.canonical_format = (word >> 12) & 1;
    this.id = word & 0xfff;
  }

  toString(): string {
    return `${this.priority} ${this.canonical_format} ${this.id}`;
  }
}

export class EthernetPacket {
  readonly dhost: EthernetAddr;
  readonly shost: EthernetAddr;
  /** Behind the tag, if there is one. 0 of a frame of IEEE 802.3, which has a length in its place. */
  readonly ethertype: number;
  readonly vlan: Vlan | null;
  readonly payload: LinkPayload;

  private constructor(span: Span, emitter: Emitter) {
    const { bytes, at } = span;
    this.dhost = new EthernetAddr(bytes, at);
    this.shost = new EthernetAddr(bytes, at + 6);
    const tagged = bytes.readUInt16BE(at + 12) === Type.VLAN && bytesOf(span) >= ETHERNET_BYTES + TAG_BYTES;
    this.vlan = tagged ? new Vlan(bytes.readUInt16BE(at + ETHERNET_BYTES)) : null;
    const header = ETHERNET_BYTES + (tagged ? TAG_BYTES : 0);
    const type = bytes.readUInt16BE(at + header - 2);
    this.ethertype = type < LEAST_TYPE ? 0 : type;
    this.payload = payloadOf(type, inner(span, header), emitter);
  }

  static read(span: Span, emitter: Emitter): EthernetPacket | null {
    return bytesOf(span) < ETHERNET_BYTES ? null : new EthernetPacket(span, emitter);
  }

  toString(): string {
    const vlan = this.vlan === null ? '' : ` vlan ${this.vlan}`;
    return `${this.shost} -> ${this.dhost}${vlan} ${shownType(this.ethertype, this.payload)}`;
  }
}

/** The loopback of BSD systems: four bytes in the byte order of the machine that captured. */
export class NullPacket {
  readonly pftype: number;
  readonly payload: IPv4 | IPv6 | null;

  private constructor(span: Span, emitter: Emitter) {
    const { bytes, at } = span;
    this.pftype = bytes[at] === 0 && bytes[at + 1] === 0 ? bytes[at + 3]! : bytes[at]!;
    const carried = inner(span, NULL_BYTES);
    this.payload =
      this.pftype === NULL_IPV4
        ? IPv4.read(carried, emitter)
        : NULL_IPV6.has(this.pftype)
          ? IPv6.read(carried, emitter)
          : null;
  }

  static read(span: Span, emitter: Emitter): NullPacket | null {
    return bytesOf(span) < NULL_BYTES ? null : new NullPacket(span, emitter);
  }

  toString(): string {
    return `${this.pftype} ${shown(this.payload)}`;
  }
}

const SLL_KINDS = ['recv_us', 'broadcast', 'multicast', 'remote_remote', 'sent_us'];

/** The pseudo device 'any' of Linux. */
export class SLLPacket {
  readonly packet_type: number;
  readonly address_type: number;
  readonly address_len: number;
  readonly address: SLLAddr;
  readonly ethertype: number;
  readonly payload: LinkPayload;

  private constructor(span: Span, emitter: Emitter) {
    const { bytes, at } = span;
    this.packet_type = bytes.readUInt16BE(at);
    this.address_type = bytes.readUInt16BE(at + 2);
    this.address_len = bytes.readUInt16BE(at + 4);
    this.address = new SLLAddr(bytes, at + 6, Math.min(this.address_len, SLL_ADDRESS));
    this.ethertype = bytes.readUInt16BE(at + 14);
    this.payload = payloadOf(this.ethertype, inner(span, SLL_BYTES), emitter);
  }

  static read(span: Span, emitter: Emitter): SLLPacket | null {
    return bytesOf(span) < SLL_BYTES ? null : new SLLPacket(span, emitter);
  }

  toString(): string {
    const kind = SLL_KINDS[this.packet_type] ?? `type ${this.packet_type}`;
    return `${kind} addrtype ${this.address_type} ${this.address} ${shownType(this.ethertype, this.payload)}`;
  }
}

/** IP without a header before it. */
export function rawIp(span: Span, emitter: Emitter): IPv4 | IPv6 | null {
  const version = bytesOf(span) === 0 ? 0 : span.bytes[span.at]! >> 4;
  return version === 4 ? IPv4.read(span, emitter) : version === 6 ? IPv6.read(span, emitter) : null;
}
