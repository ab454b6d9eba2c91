/**
 * IPv6 headers and their extension headers (RFC 8200). See ip.ts.
 *
 * Readers differ in the extension headers that they follow, and pass them as bits of {@link Follow}. Any other header ends
 * the walk, as a protocol does.
 */
import {
  AUTHENTICATION,
  authenticationBytes,
  CUT_OFF,
  EXTENSION_BYTES,
  PORTS_BYTES,
  POSITION_SHIFT,
  Protocol,
  UpperBit,
  type UpperLayer,
} from './ip.ts';

/** Copies: V8 loads and checks an imported or exported value with each use. */
const { TCP, UDP } = Protocol;
const { FRAGMENT: IS_FRAGMENT, LATER: IS_LATER, UNKNOWN: IS_UNKNOWN } = UpperBit;
const PORTS = PORTS_BYTES;
const POSITION = POSITION_SHIFT;
const PROTOCOL = 0xff;
const FIXED = 40;

/** Bytes of the header without extension headers. */
export const IPV6_BYTES = FIXED;

/** Positions of fields. The destination address follows the source address. */
export const Ipv6Field = { LENGTH: 4, NEXT_HEADER: 6, ADDRESSES: 8 } as const;
const { NEXT_HEADER } = Ipv6Field;

/** Extension headers, as bits. */
export const Follow = {
  /** Hop-by-hop options, routing, destination options. */
  OPTIONS: 1,
  /** Mobility, host identity, shim6: they too have the uniform format with a length (RFC 6564). */
  MOBILITY: 2,
  FRAGMENT: 4,
  AUTHENTICATION: 8,
} as const;
const { FRAGMENT: FOLLOW_FRAGMENT, AUTHENTICATION: FOLLOW_AUTHENTICATION } = Follow;

/** By next header value: its bit of {@link Follow}, or 0. */
const FOLLOWED_BY = new Uint8Array(256);
for (const next of [0, 43, 60]) FOLLOWED_BY[next] = Follow.OPTIONS;
for (const next of [135, 139, 140]) FOLLOWED_BY[next] = Follow.MOBILITY;
FOLLOWED_BY[44] = Follow.FRAGMENT;
FOLLOWED_BY[AUTHENTICATION] = Follow.AUTHENTICATION;

/** Bits of the fragment header: more fragments, and the offset. */
const MORE_OR_OFFSET = 0xfff9;
const OFFSET = 0xfff8;

/** Whether an IPv6 header begins at `ip`. */
export function isIpv6Header(view: DataView, ip: number, bytes: number): boolean {
  return bytes >= FIXED && view.getUint8(ip) >> 4 === 6;
}

/**
 * The protocol that the IPv6 packet at `ip` carries after its extension headers. The fixed header must be complete.
 *
 * @param follows bits of {@link Follow}
 * @param most extension headers to read; after more the protocol is unknown
 */
export function ipv6Upper(
  view: DataView,
  ip: number,
  bytes: number,
  follows: number,
  most: number,
): UpperLayer {
  const next = view.getUint8(ip + NEXT_HEADER);
  if ((FOLLOWED_BY[next]! & follows) === 0) return (FIXED << POSITION) | next;
  return behindExtensions(view, ip, bytes, follows, most);
}

/**
 * Position of the ports in the IPv6 packet at `ip`; 0 if the packet has none; -1 if there is no IPv6 header. For the hash
 * of each packet.
 *
 * @param follows bits of {@link Follow}, without fragments
 */
export function ipv6Ports(view: DataView, ip: number, bytes: number, follows: number, most: number): number {
  if (bytes < FIXED || view.getUint8(ip) >> 4 !== 6) return -1;
  const next = view.getUint8(ip + NEXT_HEADER);
  if (next === TCP || next === UDP) return bytes < FIXED + PORTS ? 0 : FIXED;
  return (FOLLOWED_BY[next]! & follows) === 0 ? 0 : portsBehindExtensions(view, ip, bytes, follows, most);
}

/** A separate function, so that V8 can inline the short path of packets without extension headers. */
function portsBehindExtensions(
  view: DataView,
  ip: number,
  bytes: number,
  follows: number,
  most: number,
): number {
  const upper = behindExtensions(view, ip, bytes, follows, most);
  const protocol = upper & PROTOCOL;
  const at = upper >> POSITION;
  return (protocol === TCP || protocol === UDP) && at + PORTS <= bytes ? at : 0;
}

/** A separate function for the same reason. */
function behindExtensions(
  view: DataView,
  ip: number,
  bytes: number,
  follows: number,
  most: number,
): UpperLayer {
  let next = view.getUint8(ip + NEXT_HEADER);
  let at = FIXED;
  let fragment = 0;
  let header = FOLLOWED_BY[next]! & follows;
  for (let headers = 0; header !== 0; headers++) {
    if (headers === most) return fragment | IS_UNKNOWN;
    if (at + EXTENSION_BYTES > bytes) return CUT_OFF;
    next = view.getUint8(ip + at);
    const following = FOLLOWED_BY[next]! & follows;
    if (header === FOLLOW_FRAGMENT) {
      const place = view.getUint16(ip + at + 2);
      if ((place & MORE_OR_OFFSET) !== 0) fragment = IS_FRAGMENT;
      // If another extension header follows, only the first fragment shows the protocol.
      if ((place & OFFSET) !== 0) return fragment | (following === 0 ? IS_LATER | next : IS_UNKNOWN);
      at += EXTENSION_BYTES;
    } else if (header === FOLLOW_AUTHENTICATION) at += authenticationBytes(view, ip + at);
    else at += (view.getUint8(ip + at + 1) + 1) * EXTENSION_BYTES;
    header = following;
  }
  return (at << POSITION) | fragment | next;
}
