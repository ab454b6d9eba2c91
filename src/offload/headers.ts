/**
 * Where the headers of a TCP or UDP packet lie.
 *
 * One object, moved from packet to packet: nothing is allocated. All places are distances in bytes from the
 * packet's first byte. Belongs to one thread.
 */
import { ETHERNET_BYTES, EtherType, networkOffset } from '../net/ethernet.ts';
import { sum } from './sum.ts';

/** Copies: V8 loads and checks what is imported with every use. */
const { IPV4, IPV6 } = EtherType;
const LEAST_BYTES = ETHERNET_BYTES;

/** IANA numbers. */
export const TCP = 6;
export const UDP = 17;
const ICMPV6 = 58;

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
/** The shortest, and the unit of their lengths. */
const EXTENSION_BYTES = 8;
const TCP_BYTES = 20;
const UDP_BYTES = 8;
/**
 * IPv6 extension headers that say where the next one begins (RFC 6564), and nothing about what is in it: hop-by-hop
 * options, routing, destination options, mobility, host identity, shim6.
 */
const EXTENSIONS = [0, 43, 60, 135, 139, 140];
const IS_EXTENSION = Uint8Array.from({ length: 256 }, (_, number) => (EXTENSIONS.includes(number) ? 1 : 0));
/** More-fragments bit and fragment offset. */
const FRAGMENT = 0x3fff;

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
    if (bytes < LEAST_BYTES) return false;
    const l3 = networkOffset(view, offset, bytes);
    const type = view.getUint16(offset + l3 - 2);
    this.l3 = l3;
    if (type === IPV4) return this.#parseIpv4(view, offset, bytes);
    if (type === IPV6) return this.#parseIpv6(view, offset, bytes);
    return false;
  }

  /** Whether there are neither IPv4 options nor IPv6 extension headers. */
  get plain(): boolean {
    return this.l4 - this.l3 === (this.version === 4 ? IPV4_BYTES : IPV6_BYTES);
  }

  /** Whether a packet that `parse` refused may belong to a TCP connection all the same. */
  get mayBeTcp(): boolean {
    if (this.version === 4) return this.protocol === TCP;
    return this.version === 6 && this.protocol !== UDP && this.protocol !== ICMPV6;
  }

  #parseIpv4(view: DataView, offset: number, bytes: number): boolean {
    const { l3 } = this;
    if (bytes < l3 + IPV4_BYTES) return false;
    this.version = 4;
    this.protocol = view.getUint8(offset + l3 + 9);
    const first = view.getUint8(offset + l3);
    const l4 = l3 + (first & 15) * 4;
    const end = l3 + view.getUint16(offset + l3 + 2);
    if (first >>> 4 !== 4 || l4 < l3 + IPV4_BYTES || end > bytes) return false;
    if ((view.getUint16(offset + l3 + 6) & FRAGMENT) !== 0) return false;
    return this.#parseTransport(view, offset, l4, end);
  }

  #parseIpv6(view: DataView, offset: number, bytes: number): boolean {
    const { l3 } = this;
    let l4 = l3 + IPV6_BYTES;
    if (bytes < l4) return false;
    this.version = 6;
    this.protocol = view.getUint8(offset + l3 + 6);
    const end = l4 + view.getUint16(offset + l3 + 4);
    if (view.getUint8(offset + l3) >>> 4 !== 6 || end > bytes) return false;
    while (IS_EXTENSION[this.protocol] === 1) {
      if (l4 + EXTENSION_BYTES > end) return false;
      this.protocol = view.getUint8(offset + l4);
      l4 += (view.getUint8(offset + l4 + 1) + 1) * EXTENSION_BYTES;
    }
    return this.#parseTransport(view, offset, l4, end);
  }

  #parseTransport(view: DataView, offset: number, l4: number, end: number): boolean {
    this.l4 = l4;
    this.end = end;
    if (this.protocol === TCP) {
      if (end < l4 + TCP_BYTES) return false;
      this.check = l4 + 16;
      this.payload = l4 + (view.getUint8(offset + l4 + 12) >>> 4) * 4;
      return this.payload >= l4 + TCP_BYTES && this.payload <= end;
    }
    this.check = l4 + 6;
    this.payload = l4 + UDP_BYTES;
    return this.protocol === UDP && end >= this.payload;
  }
}

/**
 * Sum of the pseudo header (RFC 9293, RFC 8200) but for the length of what follows, which is to be added. With the
 * addresses of the IP header: those of a packet that is routed by its source may be others.
 */
export function pseudoSum(view: DataView, offset: number, headers: Headers): number {
  const { version, l3, protocol } = headers;
  return version === 4 ? sum(view, offset + l3 + 12, 8, protocol) : sum(view, offset + l3 + 8, 32, protocol);
}
