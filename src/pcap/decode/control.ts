/** ARP (RFC 826), ICMP (RFC 792) and IGMP (RFC 3376). */
import { EthernetAddr, IPv4Addr } from './addresses.ts';
import { bytesOf, type Emitter, type Span } from './layer.ts';

const ARP_HEAD = 8;
const ARP_BYTES = 28;
const MESSAGE_BYTES = 8;
const ICMP_BYTES = 4;

export class Arp {
  readonly htype: number;
  readonly ptype: number;
  readonly hlen: number;
  readonly plen: number;
  readonly operation: number;
  /** These four only of Ethernet and IPv4. */
  readonly sender_ha: EthernetAddr | null = null;
  readonly sender_pa: IPv4Addr | null = null;
  readonly target_ha: EthernetAddr | null = null;
  readonly target_pa: IPv4Addr | null = null;

  private constructor(span: Span) {
    const { bytes, at } = span;
    this.htype = bytes.readUInt16BE(at);
    this.ptype = bytes.readUInt16BE(at + 2);
    this.hlen = bytes[at + 4]!;
    this.plen = bytes[at + 5]!;
    this.operation = bytes.readUInt16BE(at + 6);
    if (this.hlen !== EthernetAddr.BYTES || this.plen !== IPv4Addr.BYTES || bytesOf(span) < ARP_BYTES) return;
    this.sender_ha = new EthernetAddr(bytes, at + 8);
    this.sender_pa = new IPv4Addr(bytes, at + 14);
    this.target_ha = new EthernetAddr(bytes, at + 18);
    this.target_pa = new IPv4Addr(bytes, at + 24);
  }

  static read(span: Span, emitter: Emitter): Arp | null {
    if (bytesOf(span) < ARP_HEAD) return null;
    const arp = new Arp(span);
    emitter?.emit('arp', arp);
    return arp;
  }

  toString(): string {
    const operation = ['request', 'reply'][this.operation - 1] ?? 'unknown';
    if (this.sender_ha === null) return operation;
    return `${operation} sender ${this.sender_ha} ${this.sender_pa} target ${this.target_ha} ${this.target_pa}`;
  }
}

const UNREACHABLE = [
  'Destination Network Unreachable',
  'Destination Host Unreachable',
  'Destination Protocol Unreachable',
  'Destination Port Unreachable',
  'Fragmentation required, and DF flag set',
  'Source route failed',
  'Destination network unknown',
  'Destination host unknown',
  'Source host isolated',
  'Network administratively prohibited',
  'Host administratively prohibited',
  'Network unreachable for TOS',
  'Host unreachable for TOS',
  'Communication administratively prohibited',
];
const REDIRECT = ['Redirect Network', 'Redirect Host', 'Redirect TOS and Network', 'Redirect TOS and Host'];
const EXCEEDED = ['TTL expired in transit', 'Fragment reassembly time exceeded'];

/** Types whose codes have names of their own. */
const BY_CODE: Readonly<Record<number, readonly [kind: string, codes: readonly string[]]>> = {
  3: ['Destination Unreachable', UNREACHABLE],
  5: ['Redirect', REDIRECT],
  11: ['Time Exceeded', EXCEEDED],
};
const BY_TYPE: Readonly<Record<number, string>> = {
  0: 'Echo Reply',
  4: 'Source Quench',
  6: 'Alternate Host Address',
  7: 'Reserved',
  8: 'Echo Request',
  9: 'Router Advertisement',
  10: 'Router Solicitation',
};

export class ICMP {
  readonly type: number;
  readonly code: number;
  readonly checksum: number;

  private constructor({ bytes, at }: Span) {
    this.type = bytes[at]!;
    this.code = bytes[at + 1]!;
    this.checksum = bytes.readUInt16BE(at + 2);
  }

  static read(span: Span, emitter: Emitter): ICMP | null {
    if (bytesOf(span) < ICMP_BYTES) return null;
    const icmp = new ICMP(span);
    emitter?.emit('icmp', icmp);
    return icmp;
  }

  toString(): string {
    const { type, code } = this;
    const [kind, codes] = BY_CODE[type] ?? [];
    if (kind !== undefined) return codes![code] ?? `${kind} (unknown code ${code})`;
    return BY_TYPE[type] ?? `type ${type} code ${code}`;
  }
}

const IGMP_TYPES: Readonly<Record<number, readonly [name: string, version: number]>> = {
  17: ['Membership Query', 3],
  18: ['Membership Report', 1],
  22: ['Membership Report', 2],
  23: ['Leave Group', 2],
  34: ['Membership Report', 3],
};

export class IGMP {
  readonly type: number;
  /** undefined if the type does not say it. */
  readonly version: number | undefined;
  readonly maxResponseTime: number;
  readonly checksum: number;
  readonly groupAddress: IPv4Addr;

  private constructor({ bytes, at }: Span) {
    this.type = bytes[at]!;
    this.version = IGMP_TYPES[this.type]?.[1];
    this.maxResponseTime = bytes[at + 1]!;
    this.checksum = bytes.readUInt16BE(at + 2);
    this.groupAddress = new IPv4Addr(bytes, at + 4);
  }

  static read(span: Span, emitter: Emitter): IGMP | null {
    if (bytesOf(span) < MESSAGE_BYTES) return null;
    const igmp = new IGMP(span);
    emitter?.emit('igmp', igmp);
    return igmp;
  }

  toString(): string {
    return IGMP_TYPES[this.type]?.[0] ?? `type ${this.type}`;
  }
}
