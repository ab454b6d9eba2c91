/**
 * The common part of IPv4 and IPv6. One integer, an {@link UpperLayer}, says which protocol a packet carries and where
 * its header begins: returning an object, or in several calls, would cost more than parsing.
 *
 * Only ipv4.ts and ipv6.ts walk over IP headers. The RSS hash, offloads, handlers and the lab use them, so they cannot
 * disagree about a packet. Positions count from the first byte of the IP header. The `bytes` parameter of the functions is
 * how much of the packet may be read; the caller passes the bytes of the frame or the length of the IP header. Any thread;
 * they allocate nothing, and do not throw for a packet inside the view.
 */

/** IANA protocol numbers, of the IPv4 protocol and IPv6 next header fields. */
export const Protocol = {
  /** Internet Control Message Protocol, RFC 792. */
  ICMP: 1,
  /** Transmission Control Protocol, RFC 9293. */
  TCP: 6,
  /** User Datagram Protocol, RFC 768. */
  UDP: 17,
  /** ICMP for IPv6, RFC 4443. */
  ICMPV6: 58,
} as const;

/** Bytes of the source and destination port, with which TCP and UDP begin. */
export const PORTS_BYTES = 4;

/** RFC 8200 lists four headers that may precede TCP, one of them twice; more is an attack on the parser. */
export const MAX_EXTENSIONS = 8;

/** Bytes of the shortest extension header, and the unit of their lengths, except for the authentication header. */
export const EXTENSION_BYTES = 8;

/** Protocol number of the authentication header (RFC 4302), which may follow either version of IP. */
export const AUTHENTICATION = 51;

/** Bytes of the authentication header at `at`. */
export function authenticationBytes(view: DataView, at: number): number {
  return (view.getUint8(at + 1) + 2) * 4;
}

/**
 * The protocol above IP and all extension headers:
 *
 * ```
 *   bits 0-7   protocol; 255, which IANA reserves, in CUT_OFF
 *   bit  8     the packet is a fragment, the first or another
 *   bit  9     it is not the first fragment: the header of the protocol is not in it
 *   bit  10    the protocol cannot be known, nor where its header is
 *   bits 11 …  position of the protocol's header
 * ```
 */
export type UpperLayer = number;

/** The packet ends inside an extension header. The only negative value. */
export const CUT_OFF: UpperLayer = -1;

export const UpperBit = { FRAGMENT: 1 << 8, LATER: 1 << 9, UNKNOWN: 1 << 10 } as const;
const POSITION = 11;
export const POSITION_SHIFT = POSITION;
/** Not exported: V8 loads and checks an exported or imported value with each use. Hot code elsewhere copies it. */
const { FRAGMENT, LATER, UNKNOWN } = UpperBit;
const PROTOCOL = 0xff;

/** Position of the protocol's header, if {@link hasHeader}. */
export function positionOf(upper: UpperLayer): number {
  return upper >> POSITION;
}

/** The protocol's number, if {@link isKnown}. */
export function protocolOf(upper: UpperLayer): number {
  return upper & PROTOCOL;
}

/** Whether the protocol is known. */
export function isKnown(upper: UpperLayer): boolean {
  return (upper & UNKNOWN) === 0;
}

/** Whether the packet is a fragment, the first one included. For readers that follow fragment headers. */
export function isFragment(upper: UpperLayer): boolean {
  return (upper & FRAGMENT) !== 0;
}

/** Whether the position of the protocol's header is known: it is not in a later fragment. */
export function hasHeader(upper: UpperLayer): boolean {
  return (upper & (LATER | UNKNOWN)) === 0;
}
