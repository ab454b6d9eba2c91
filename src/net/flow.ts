/**
 * Which flow a packet belongs to.
 *
 * `read` follows IPv4 options, the extension headers of IPv6, and fragment and authentication headers. It checks all
 * lengths and no checksum. A field that the packet does not show, such as the ports of a later fragment, is -1.
 */
import { ETHERNET_BYTES, EtherType, networkOffset } from './ethernet.ts';
import {
  hasHeader,
  isFragment,
  isKnown,
  MAX_EXTENSIONS,
  PORTS_BYTES,
  Protocol,
  positionOf,
  protocolOf,
  type UpperLayer,
} from './ip.ts';
import { Ipv4Field, ipv4HeaderBytes, ipv4Upper } from './ipv4.ts';
import { Follow, IPV6_BYTES, Ipv6Field, ipv6Upper, isIpv6Header } from './ipv6.ts';

/** Copies: V8 loads and checks an imported value with each use. */
const { IPV4, IPV6 } = EtherType;
const { TCP, UDP } = Protocol;
const MIN_BYTES = ETHERNET_BYTES;
const FIXED_IPV6 = IPV6_BYTES;
const { LENGTH, ADDRESSES } = Ipv4Field;
const { LENGTH: PAYLOAD_LENGTH, ADDRESSES: ADDRESSES6 } = Ipv6Field;
const MAX = MAX_EXTENSIONS;
const PORTS = PORTS_BYTES;

/** The headers that Linux follows to find a packet's ports (ipv6_skip_exthdr in net/ipv6/exthdrs_core.c). */
const FOLLOWS = Follow.OPTIONS | Follow.FRAGMENT | Follow.AUTHENTICATION;

/** A packet in memory. A handler's {@link Packet} has this shape. */
export interface PacketBytes {
  /** Of the frames. */
  readonly view: DataView;
  /** Of the packet's first byte in `view`. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/**
 * The flow of one packet after another: make one object in `create`, and call `read` for each packet. It allocates
 * nothing. Positions count from the packet's first byte.
 */
export class Flow {
  /** EtherType after all VLAN tags; -1 if the frame is too short for one. */
  type = -1;
  /** Position of the network header. */
  l3 = 0;
  /** Position of the source address; the destination address follows it. */
  addresses = 0;
  /** Bytes of one address: 4 or 16. */
  addressBytes = 0;
  /** IPv4 protocol, or the last next header of IPv6; -1 if unknown. */
  protocol = -1;
  /** Position of the TCP, UDP or other header above IP; -1 in a later fragment. */
  l4 = -1;
  /** Position where the IP packet ends. An Ethernet frame may continue with padding. */
  end = 0;
  /** Source port of TCP and UDP; -1 for other protocols and later fragments. */
  from = -1;
  /** Destination port, likewise. */
  to = -1;
  /** Whether the packet is a fragment, the first one included. */
  fragment = false;

  /**
   * Reads a packet's headers.
   *
   * @returns false if it is not IP, or its lengths contradict each other: then only `type` and `l3` are valid
   */
  read(packet: PacketBytes): boolean {
    return this.readAt(packet.view, packet.offset, packet.length);
  }

  /** The same for `bytes` bytes at `start` of `view`. */
  readAt(view: DataView, start: number, bytes: number): boolean {
    this.type = -1;
    if (bytes < MIN_BYTES) return false;
    const l3 = networkOffset(view, start, bytes);
    const type = view.getUint16(start + l3 - 2);
    this.l3 = l3;
    this.type = type;
    this.protocol = this.l4 = this.from = this.to = -1;
    this.fragment = false;
    if (type === IPV4) return this.#readIpv4(view, start, bytes - l3);
    if (type === IPV6) return this.#readIpv6(view, start, bytes - l3);
    return false;
  }

  #readIpv4(view: DataView, start: number, bytes: number): boolean {
    const { l3 } = this;
    const ip = start + l3;
    const headerBytes = ipv4HeaderBytes(view, ip, bytes);
    if (headerBytes === 0) return false;
    const total = view.getUint16(ip + LENGTH);
    if (total < headerBytes || total > bytes) return false;
    this.addresses = l3 + ADDRESSES;
    this.addressBytes = 4;
    return this.#readUpper(view, start, ipv4Upper(view, ip, headerBytes, total), l3 + total);
  }

  #readIpv6(view: DataView, start: number, bytes: number): boolean {
    const { l3 } = this;
    const ip = start + l3;
    if (!isIpv6Header(view, ip, bytes)) return false;
    const total = FIXED_IPV6 + view.getUint16(ip + PAYLOAD_LENGTH);
    if (total > bytes) return false;
    this.addresses = l3 + ADDRESSES6;
    this.addressBytes = 16;
    return this.#readUpper(view, start, ipv6Upper(view, ip, total, FOLLOWS, MAX), l3 + total);
  }

  #readUpper(view: DataView, start: number, upper: UpperLayer, end: number): boolean {
    if (upper < 0) return false;
    this.end = end;
    this.fragment = isFragment(upper);
    if (!isKnown(upper)) return true;
    const protocol = protocolOf(upper);
    this.protocol = protocol;
    if (!hasHeader(upper)) return true;
    const l4 = this.l3 + positionOf(upper);
    if (l4 > end) return false;
    this.l4 = l4;
    if (protocol !== TCP && protocol !== UDP) return true;
    if (l4 + PORTS > end) return false;
    this.from = view.getUint16(start + l4);
    this.to = view.getUint16(start + l4 + 2);
    return true;
  }
}

/**
 * 32 bits as a signed number, unchecked: for positions that `Flow.read` has checked. `packet.u32` returns up to 2^32. If V8
 * does not inline that call, a result from 2^31 on is an object: 12 bytes of garbage.
 */
export function int32At(packet: PacketBytes, at: number): number {
  return packet.view.getInt32(packet.offset + at);
}

/** Adds a 32-bit word to a hash: one round of MurmurHash3 (A. Appleby), with its constants. */
export function mixHash(hash: number, word: number): number {
  const spread = Math.imul(word, 0xcc9e2d51);
  const both = hash ^ Math.imul((spread << 15) | (spread >>> 17), 0x1b873593);
  return (Math.imul((both << 13) | (both >>> 19), 5) + 0xe6546b64) | 0;
}

/** Makes every bit of a hash depend on all others. Signed, because a number above 2^31 would be an object. */
export function finishHash(hash: number): number {
  let bits = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
