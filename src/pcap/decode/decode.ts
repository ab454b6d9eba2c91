/**
 * `pcap.decode`: a packet as nested objects, with the names that programs for `pcap` of npm expect. Written from the formats'
 * documents and that package's interface. Any thread.
 */

import type { IPv4, IPv6 } from './ip.ts';
import type { Emitter, Span } from './layer.ts';
import { EthernetPacket, NullPacket, rawIp, SLLPacket } from './link.ts';

/** Names of the link types that can be decoded, with their numbers. */
export const LINK_TYPES = {
  LINKTYPE_NULL: 0,
  LINKTYPE_ETHERNET: 1,
  LINKTYPE_RAW: 101,
  LINKTYPE_LINUX_SLL: 113,
} as const;
export type LinkType = keyof typeof LINK_TYPES;

/** A packet as a session emits it. */
export interface PacketWithHeader {
  /** The captured bytes. */
  readonly buf: Buffer;
  /** Four little-endian words: seconds, microseconds, captured bytes, bytes on the wire. */
  readonly header: Buffer;
  readonly link_type: string;
}

export class PcapHeader {
  readonly tv_sec: number;
  readonly tv_usec: number;
  readonly caplen: number;
  readonly len: number;

  constructor(header: Buffer) {
    this.tv_sec = header.readUInt32LE(0);
    this.tv_usec = header.readUInt32LE(4);
    this.caplen = header.readUInt32LE(8);
    this.len = header.readUInt32LE(12);
  }
}

/** Words of a {@link PcapHeader}. @param nanos since 1970 */
export function headerOf(nanos: bigint, caplen: number, len: number): Buffer {
  const header = Buffer.allocUnsafe(16);
  header.writeUInt32LE(Number((nanos / 1_000_000_000n) & 0xffff_ffffn), 0);
  header.writeUInt32LE(Number((nanos / 1000n) % 1_000_000n), 4);
  header.writeUInt32LE(caplen, 8);
  header.writeUInt32LE(len, 12);
  return header;
}

export type PcapPayload = EthernetPacket | NullPacket | SLLPacket | IPv4 | IPv6 | null;

/** A decoded packet. */
export class PcapPacket {
  readonly link_type: string;
  readonly pcap_header: PcapHeader;
  /** null: of a link type that is not decoded, or cut. */
  readonly payload: PcapPayload;
  readonly emitter: Emitter;

  constructor({ buf, header, link_type: linkType }: PacketWithHeader, emitter?: Emitter) {
    this.link_type = linkType;
    this.pcap_header = new PcapHeader(header);
    this.emitter = emitter;
    const end = Math.min(buf.length, this.pcap_header.caplen);
    this.payload = payloadOf(linkType, { bytes: buf, at: 0, end }, emitter);
  }

  toString(): string {
    return `${this.link_type} ${this.payload}`;
  }
}

function payloadOf(linkType: string, span: Span, emitter: Emitter): PcapPayload {
  switch (linkType) {
    case 'LINKTYPE_ETHERNET':
      return EthernetPacket.read(span, emitter);
    case 'LINKTYPE_NULL':
      return NullPacket.read(span, emitter);
    case 'LINKTYPE_LINUX_SLL':
      return SLLPacket.read(span, emitter);
    case 'LINKTYPE_RAW':
      return rawIp(span, emitter);
    default:
      return null;
  }
}

/**
 * Decodes a packet. Never throws: a layer that is cut, or of no known kind, is null or undefined.
 *
 * @param emitter gets an event for each layer, inner ones first: 'tcp', 'udp', 'icmp', 'igmp', 'arp', 'ipv4', 'ipv6'
 */
const decodePacket = (packet: PacketWithHeader, emitter?: Emitter): PcapPacket =>
  new PcapPacket(packet, emitter);

/** Callable by either name. */
export const decode = Object.assign(decodePacket, { packet: decodePacket });
