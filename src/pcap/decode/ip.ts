/** IPv4 (RFC 791), IPv6 (RFC 8200) and the extension headers that have one form. */
import { IPv4Addr, IPv6Addr } from './addresses.ts';
import { ICMP, IGMP } from './control.ts';
import { bytesOf, type Emitter, inner, type Span, shown } from './layer.ts';
import { TCP, UDP } from './transport.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const EXTENSION_BYTES = 8;
/** IP in IP, and extension headers, as deep as they are followed: a packet of nothing else must not fill the stack. */
const MAX_DEPTH = 16;

/** What an IP header may carry. undefined: a protocol that is not decoded. null: its header is cut. */
export type IpPayload = TCP | UDP | ICMP | IGMP | IPv4 | IPv6 | HeaderExtension | NoNext | null | undefined;

/** Hop-by-hop options, routing, destination options, mobility, HIP, Shim6. */
const EXTENSIONS = new Set([0, 43, 60, 135, 139, 140]);
const NAMES: Readonly<Record<number, string>> = {
  1: 'ICMP',
  2: 'IGMP',
  4: 'IPv4',
  6: 'TCP',
  17: 'UDP',
  41: 'IPv6',
};

function payloadOf(protocol: number, span: Span, emitter: Emitter, depth: number): IpPayload {
  if (depth > MAX_DEPTH) return null;
  if (EXTENSIONS.has(protocol)) return HeaderExtension.read(span, emitter, depth);
  switch (protocol) {
    case 1:
      return ICMP.read(span, emitter);
    case 2:
      return IGMP.read(span, emitter);
    case 4:
      return IPv4.read(span, emitter, depth);
    case 6:
      return TCP.read(span, emitter);
    case 17:
      return UDP.read(span, emitter);
    case 41:
      return IPv6.read(span, emitter, depth);
    case 59:
      return new NoNext();
    default:
      return undefined;
  }
}

/** The protocol and what it carries. */
function shownProtocol(protocol: number, payload: IpPayload): string {
  if (payload === undefined) return `proto ${protocol} undefined`;
  const name = NAMES[protocol] ?? (payload === null ? `proto ${protocol}` : payload.constructor.name);
  return `${name} ${shown(payload)}`;
}

export class IPFlags {
  readonly reserved: boolean;
  readonly doNotFragment: boolean;
  readonly moreFragments: boolean;

  constructor(bits: number) {
    this.reserved = (bits & 4) !== 0;
    this.doNotFragment = (bits & 2) !== 0;
    this.moreFragments = (bits & 1) !== 0;
  }

  toString(): string {
    const { reserved, doNotFragment, moreFragments } = this;
    const set = `${reserved ? 'r' : ''}${doNotFragment ? 'd' : ''}${moreFragments ? 'm' : ''}`;
    return set === '' ? '' : `[${set}]`;
  }
}

export class IPv4 {
  readonly version: number;
  /** Bytes. */
  readonly headerLength: number;
  readonly diffserv: number;
  /** Bytes of header and payload, as the header says. */
  readonly length: number;
  readonly identification: number;
  readonly flags: IPFlags;
  /** In bytes. Of a fragment that is not the first, the payload is null. */
  readonly fragmentOffset: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly headerChecksum: number;
  readonly saddr: IPv4Addr;
  readonly daddr: IPv4Addr;
  readonly protocolName: string | undefined;
  readonly payload: IpPayload;

  private constructor(span: Span, emitter: Emitter, depth: number) {
    const { bytes, at } = span;
    const fragment = bytes.readUInt16BE(at + 6);
    this.version = bytes[at]! >> 4;
    this.headerLength = (bytes[at]! & 15) * 4;
    this.diffserv = bytes[at + 1]!;
    this.length = bytes.readUInt16BE(at + 2);
    this.identification = bytes.readUInt16BE(at + 4);
    this.flags = new IPFlags(fragment >> 13);
    this.fragmentOffset = 8 * (fragment & 0x1fff);
    this.ttl = bytes[at + 8]!;
    this.protocol = bytes[at + 9]!;
    this.headerChecksum = bytes.readUInt16BE(at + 10);
    this.saddr = new IPv4Addr(bytes, at + 12);
    this.daddr = new IPv4Addr(bytes, at + 16);
    const header = Math.max(this.headerLength, IPV4_BYTES);
    // 0 in a packet that the machine's own stack sends: the device cuts it (TSO).
    const length = this.length === 0 ? bytesOf(span) : this.length;
    const carried = inner(span, header, length - header);
    this.payload = this.fragmentOffset > 0 ? null : payloadOf(this.protocol, carried, emitter, depth + 1);
    this.protocolName = this.payload === undefined ? 'Unknown' : undefined;
  }

  static read(span: Span, emitter: Emitter, depth = 0): IPv4 | null {
    if (bytesOf(span) < IPV4_BYTES) return null;
    const ip = new IPv4(span, emitter, depth);
    emitter?.emit('ipv4', ip);
    return ip;
  }

  toString(): string {
    const flags = `${this.flags}`;
    const shownFlags = flags === '' ? '' : ` flags ${flags}`;
    return `${this.saddr} -> ${this.daddr}${shownFlags} ${shownProtocol(this.protocol, this.payload)}`;
  }
}

export class IPv6 {
  readonly version: number;
  readonly trafficClass: number;
  readonly flowLabel: number;
  readonly payloadLength: number;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly saddr: IPv6Addr;
  readonly daddr: IPv6Addr;
  readonly protocolName: string | undefined;
  readonly payload: IpPayload;

  private constructor(span: Span, emitter: Emitter, depth: number) {
    const { bytes, at } = span;
    const word = bytes.readUInt32BE(at);
    this.version = word >>> 28;
    this.trafficClass = (word >>> 20) & 0xff;
    this.flowLabel = word & 0xfffff;
    this.payloadLength = bytes.readUInt16BE(at + 4);
    this.nextHeader = bytes[at + 6]!;
    this.hopLimit = bytes[at + 7]!;
    this.saddr = new IPv6Addr(bytes, at + 8);
    this.daddr = new IPv6Addr(bytes, at + 24);
    // 0: a jumbogram, or a packet that the device cuts.
    const length = this.payloadLength === 0 ? bytesOf(span) : this.payloadLength;
    this.payload = payloadOf(this.nextHeader, inner(span, IPV6_BYTES, length), emitter, depth + 1);
    this.protocolName = this.payload === undefined ? 'Unknown' : undefined;
  }

  static read(span: Span, emitter: Emitter, depth = 0): IPv6 | null {
    if (bytesOf(span) < IPV6_BYTES) return null;
    const ip = new IPv6(span, emitter, depth);
    emitter?.emit('ipv6', ip);
    return ip;
  }

  toString(): string {
    return `${this.saddr} -> ${this.daddr} ${shownProtocol(this.nextHeader, this.payload)}`;
  }
}

/** An extension header of IPv6. Its options are not decoded. */
export class HeaderExtension {
  readonly nextHeader: number;
  /** Bytes. */
  readonly headerLength: number;
  readonly payload: IpPayload;

  private constructor(span: Span, emitter: Emitter, depth: number) {
    const { bytes, at } = span;
    this.nextHeader = bytes[at]!;
    this.headerLength = 8 * (bytes[at + 1]! + 1);
    this.payload = payloadOf(this.nextHeader, inner(span, this.headerLength), emitter, depth + 1);
  }

  static read(span: Span, emitter: Emitter, depth: number): HeaderExtension | null {
    return bytesOf(span) < EXTENSION_BYTES ? null : new HeaderExtension(span, emitter, depth);
  }

  toString(): string {
    return shownProtocol(this.nextHeader, this.payload);
  }
}

/** Nothing follows. */
export class NoNext {
  toString(): string {
    return '';
  }
}
