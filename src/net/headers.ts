/**
 * Positions of the headers of a TCP or UDP packet, for segmenting, merging and finishing checksums.
 *
 * One object reads one packet after another and allocates nothing. Positions count from the packet's first byte. Belongs
 * to one thread.
 */
import { pseudoHeaderSum } from './checksum.ts';
import { ETHERNET_BYTES, EtherType, networkOffset } from './ethernet.ts';
import { Protocol, positionOf, protocolOf } from './ip.ts';
import { IPV4_BYTES, Ipv4Field, ipv4Fragment, ipv4HeaderBytes } from './ipv4.ts';
import { Follow, IPV6_BYTES, Ipv6Field, ipv6Upper } from './ipv6.ts';

/** Copies: V8 loads and checks an imported value with each use. */
const { IPV4, IPV6 } = EtherType;
const { TCP, UDP, ICMPV6 } = Protocol;
const MIN_BYTES = ETHERNET_BYTES;
const FIXED_IPV4 = IPV4_BYTES;
const FIXED_IPV6 = IPV6_BYTES;
const { LENGTH, PROTOCOL } = Ipv4Field;
const { LENGTH: PAYLOAD_LENGTH, NEXT_HEADER } = Ipv6Field;

/** Headers that can be repeated in each frame of a segmented packet. */
const FOLLOWS = Follow.OPTIONS | Follow.MOBILITY;
/** More than fit a packet: the kernel follows any number. */
const ALL = 0x10000;

const TCP_BYTES = 20;
const UDP_BYTES = 8;

/** Bits of the TCP flags byte (RFC 9293, RFC 3168). */
export const TcpFlag = { FIN: 0x01, PSH: 0x08, ACK: 0x10, ECE: 0x40, CWR: 0x80 } as const;

export class Headers {
  /** 4 or 6; 0 if the packet is not IP. */
  version = 0;
  /** IANA number in the IPv4 protocol field, or in the last IPv6 next header field that was read; 0 if neither was. */
  protocol = 0;
  l3 = 0;
  l4 = 0;
  /** Position of the layer-4 checksum. */
  check = 0;
  payload = 0;
  /** End of the packet according to IP; padding of a short frame may follow. */
  end = 0;

  /**
   * Reads the headers of the packet of `bytes` bytes at `offset`: Ethernet, any number of VLAN tags, IPv4 with options
   * or IPv6 with extension headers, TCP with options or UDP.
   *
   * @returns whether it is such a packet, and complete. False for fragments, for authentication and encryption headers,
   *   and for lengths that contradict each other: then only `version` and `protocol` are valid
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

  /** Whether the packet has neither IPv4 options nor IPv6 extension headers. */
  get plain(): boolean {
    return this.l4 - this.l3 === (this.version === 4 ? FIXED_IPV4 : FIXED_IPV6);
  }

  /** Whether a packet that `parse` refused may still belong to a TCP connection. */
  get mayBeTcp(): boolean {
    if (this.version === 4) return this.protocol === TCP;
    return this.version === 6 && this.protocol !== UDP && this.protocol !== ICMPV6;
  }

  /** Bytes of the IPv4 header at `ip`; 0 if `parse` must refuse the packet. */
  #passIpv4(view: DataView, ip: number, bytes: number): number {
    if (bytes < FIXED_IPV4) return 0;
    this.version = 4;
    this.protocol = view.getUint8(ip + PROTOCOL);
    const total = view.getUint16(ip + LENGTH);
    this.end = this.l3 + total;
    return total > bytes || ipv4Fragment(view, ip) !== 0 ? 0 : ipv4HeaderBytes(view, ip, bytes);
  }

  /** The same for an IPv6 header with its extension headers. */
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
 * Sum of the pseudo header (RFC 9293, RFC 8200), without the length of what follows: the caller adds that. It has the
 * addresses of the IP header; the pseudo header of a source-routed packet may have others.
 */
export function pseudoSum(view: DataView, offset: number, { version, l3, protocol }: Headers): number {
  return pseudoHeaderSum(view, offset + l3, version, protocol);
}
