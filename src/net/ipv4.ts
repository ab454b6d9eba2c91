/**
 * IPv4 headers with options (RFC 791), and the authentication headers after them (RFC 4302). See ip.ts.
 */
import {
  AUTHENTICATION,
  authenticationBytes,
  CUT_OFF,
  EXTENSION_BYTES,
  MAX_EXTENSIONS,
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
const AUTHENTICATED = AUTHENTICATION;
const FIXED = 20;

/** Bytes of the header without options. */
export const IPV4_BYTES = FIXED;

/** Positions of fields. The destination address follows the source address. */
export const Ipv4Field = { LENGTH: 2, FRAGMENT: 6, PROTOCOL: 9, CHECKSUM: 10, ADDRESSES: 12 } as const;
const { FRAGMENT, PROTOCOL } = Ipv4Field;

/** Bits of the fragment field: more fragments, and the offset. */
const MORE_OR_OFFSET = 0x3fff;
const OFFSET = 0x1fff;

/** Bytes of the IPv4 header with its options; 0 if it is cut off, too short, or not version 4. */
export function ipv4HeaderBytes(view: DataView, ip: number, bytes: number): number {
  if (bytes < FIXED) return 0;
  const first = view.getUint8(ip);
  const count = (first & 15) * 4;
  return first >> 4 === 4 && count >= FIXED ? count : 0;
}

/** The more-fragments bit and the fragment offset of the IPv4 packet at `ip`; 0 if it is not a fragment. */
export function ipv4Fragment(view: DataView, ip: number): number {
  return view.getUint16(ip + FRAGMENT) & MORE_OR_OFFSET;
}

/**
 * Position of the ports in the IPv4 packet at `ip`. 0 if the packet has none: it is not TCP or UDP, is a fragment, or ends
 * before them. -1 if there is no IPv4 header.
 *
 * For the hash of each packet. It repeats the checks of {@link ipv4HeaderBytes} and {@link ipv4Fragment}: calling them
 * makes a hash 6 % slower, and uses up what V8 inlines into one function (920 bytes of bytecode) before the rest of the
 * hash is inlined.
 */
export function ipv4Ports(view: DataView, ip: number, bytes: number): number {
  if (bytes < FIXED) return -1;
  const first = view.getUint8(ip);
  const count = (first & 15) * 4;
  if (first >> 4 !== 4 || count < FIXED) return -1;
  const protocol = view.getUint8(ip + PROTOCOL);
  if (protocol !== TCP && protocol !== UDP) return 0;
  const isFragment = (view.getUint16(ip + FRAGMENT) & MORE_OR_OFFSET) !== 0;
  return isFragment || count + PORTS > bytes ? 0 : count;
}

/**
 * The protocol that the IPv4 packet at `ip` carries, also after authentication headers.
 *
 * @param headerBytes the result of {@link ipv4HeaderBytes}, not 0
 */
export function ipv4Upper(view: DataView, ip: number, headerBytes: number, bytes: number): UpperLayer {
  const next = view.getUint8(ip + PROTOCOL);
  const place = ipv4Fragment(view, ip);
  if (place !== 0) {
    // Only the first fragment names the authenticated protocol, so it is unknown in all fragments.
    if (next === AUTHENTICATED) return IS_FRAGMENT | IS_UNKNOWN;
    const later = (place & OFFSET) === 0 ? 0 : IS_LATER;
    return (headerBytes << POSITION) | later | IS_FRAGMENT | next;
  }
  if (next === AUTHENTICATED) return behindAuthentication(view, ip, headerBytes, bytes);
  return (headerBytes << POSITION) | next;
}

function behindAuthentication(view: DataView, ip: number, start: number, bytes: number): UpperLayer {
  let next: number = AUTHENTICATED;
  let at = start;
  for (let headers = 0; next === AUTHENTICATED; headers++) {
    if (headers === MAX_EXTENSIONS) return IS_UNKNOWN;
    if (at + EXTENSION_BYTES > bytes) return CUT_OFF;
    next = view.getUint8(ip + at);
    at += authenticationBytes(view, ip + at);
  }
  return (at << POSITION) | next;
}
