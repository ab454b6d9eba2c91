/**
 * Where the headers of a TCP or UDP packet are: what cutting, merging and finishing checksums need.
 *
 * One object, moved from packet to packet: nothing is allocated. All positions are distances in bytes from the
 * packet's first byte. Belongs to one thread.
 */
import { pseudoHeaderSum } from './checksum.ts';
import { ETHERNET_BYTES, EtherType, networkOffset } from './ethernet.ts';
import { Protocol, positionOf, protocolOf } from './ip.ts';
import { IPV4_BYTES, Ipv4Field, ipv4Fragment, ipv4HeaderBytes } from './ipv4.ts';
import { Follow, IPV6_BYTES, Ipv6Field, ipv6Upper } from './ipv6.ts';

/** Copies: V8 loads and checks what is imported with every use. */
const { IPV4, IPV6 } = EtherType;
const { TCP, UDP, ICMPV6 } = Protocol;
const MIN_BYTES = ETHERNET_BYTES;
const FIXED_IPV4 = IPV4_BYTES;
const FIXED_IPV6 = IPV6_BYTES;
const { LENGTH, PROTOCOL } = Ipv4Field;
const { LENGTH: PAYLOAD_LENGTH, NEXT_HEADER } = Ipv6Field;

/** Those that say nothing but where the next one begins. A segment is cut with them repeated in each frame. */
const FOLLOWS = Follow.OPTIONS | Follow.MOBILITY;
/** More than a packet holds: the kernel follows any number. */
const ALL = 0x10000;

const TCP_BYTES = 20;
const UDP_BYTES = 8;

/** Bits of the TCP flags byte (RFC 9293, RFC 3168). */
export const TcpFlag = { FIN: 0x01, PSH: 0x08, ACK: 0x10, ECE: 0x40, CWR: 0x80 } as const;

export class Headers {
  /** 4 or 6; 0 if it is not IP. */
  version = 0;
  /** IANA number, of the IPv4 protocol or last IPv6 next header field that was read; 0 if there is none. */
  protocol = 0;
  l3 = 0;
  l4 = 0;
  /** Of the layer-4 checksum field. */
  check = 0;
  payload = 0;
  /** Where IP says that the packet ends: what follows is the padding of a short frame. */
  end = 0;

  /**
   * Reads the headers of the packet of `bytes` bytes at `offset`: Ethernet, any number of VLAN tags, IPv4 with
   * options or IPv6 with extension headers, TCP with options or UDP.
   *
   * @returns whether it is such a packet, whole. False for fragments, IPv6 headers of authentication and
   *   encryption, and lengths that contradict each other: then only `version` and `protocol` mean something
   */
  parse(view: DataView, offset: number, bytes: number): boolean {
    this.version = 0;
    this.protocol = 0;
    if (bytes < MIN_BYTES) return false;
    const l3 = networkOffset(view, offset, bytes);
    const type = view.getUint16(offset + l3 - 2);
    this.l3 = l3;
    const ip = offset + l3;
    const l4 =
      type === IPV4
        ? this.#passIpv4(view, ip, bytes - l3)
        : type === IPV6
          ? this.#passIpv6(view, ip, bytes - l3)
          : 0;
    return l4 !== 0 && this.#parseTransport(view, offset, l3 + l4);
  }

  /** Whether there are neither IPv4 options nor IPv6 extension headers. */
  get plain(): boolean {
    return this.l4 - this.l3 === (this.version === 4 ? FIXED_IPV4 : FIXED_IPV6);
  }

  /** Whether a packet that `parse` refused may belong to a TCP connection all the same. */
  get mayBeTcp(): boolean {
    if (this.version === 4) return this.protocol === TCP;
    return this.version === 6 && this.protocol !== UDP && this.protocol !== ICMPV6;
  }

  /** Bytes of the IPv4 header at `ip`; 0 where `parse` is to refuse the packet. */
  #passIpv4(view: DataView, ip: number, bytes: number): number {
    if (bytes < FIXED_IPV4) return 0;
    this.version = 4;
    this.protocol = view.getUint8(ip + PROTOCOL);
    const total = view.getUint16(ip + LENGTH);
    this.end = this.l3 + total;
    return total > bytes || ipv4Fragment(view, ip) !== 0 ? 0 : ipv4HeaderBytes(view, ip, bytes);
  }

  /** The same of an IPv6 header and its extension headers. */
  #passIpv6(view: DataView, ip: number, bytes: number): number {
    if (bytes < FIXED_IPV6) return 0;
    this.version = 6;
    this.protocol = view.getUint8(ip + NEXT_HEADER);
    const total = FIXED_IPV6 + view.getUint16(ip + PAYLOAD_LENGTH);
    this.end = this.l3 + total;
    if (total > bytes || view.getUint8(ip) >>> 4 !== 6) return 0;
    const upper = ipv6Upper(view, ip, total, FOLLOWS, ALL);
    this.protocol = protocolOf(upper);
    return positionOf(upper);
  }

  #parseTransport(view: DataView, offset: number, l4: number): boolean {
    const { protocol, end } = this;
    this.l4 = l4;
    if (protocol === TCP) {
      if (end < l4 + TCP_BYTES) return false;
      const payload = l4 + (view.getUint8(offset + l4 + 12) >>> 4) * 4;
      this.check = l4 + 16;
      this.payload = payload;
      return payload >= l4 + TCP_BYTES && payload <= end;
    }
    this.check = l4 + 6;
    this.payload = l4 + UDP_BYTES;
    return protocol === UDP && end >= l4 + UDP_BYTES;
  }
}

/**
 * Sum of the pseudo header (RFC 9293, RFC 8200) but for the length of what follows, which is to be added. With the
 * addresses of the IP header: those of a packet that is routed by its source may be others.
 */
export function pseudoSum(view: DataView, offset: number, { version, l3, protocol }: Headers): number {
  return pseudoHeaderSum(view, offset + l3, version, protocol);
}
