/**
 * Which TCP packets can be merged: those of one flow whose headers one large segment can represent.
 *
 * Offsets are positions of packets in the shared memory. Allocates nothing; any thread.
 */
import { checksum, sum } from '../net/checksum.ts';
import { type Headers, TcpFlag } from '../net/headers.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';

/** A copy: V8 loads and checks an imported value with each use. */
const FIXED_IPV4 = IPV4_BYTES;
const DONT_FRAGMENT = 0x4000;
const LAST = TcpFlag.PSH | TcpFlag.FIN;

/** Hash of addresses and ports. If two flows collide, they only keep each other from being merged. */
export function flowHash(view: DataView, offset: number, { version, l3, l4 }: Headers): number {
  let hash = view.getInt32(offset + l4);
  const end = offset + (version === 4 ? l3 + 20 : l3 + 40);
  for (let i = offset + (version === 4 ? l3 + 12 : l3 + 8); i < end; i += 4) {
    hash = Math.imul(hash, 0x01000193) ^ view.getInt32(i);
  }
  return hash;
}

/** Whether a TCP packet has payload, no padding, no IP options or extension headers, and a correct IPv4 checksum. */
export function isPlain(view: DataView, offset: number, bytes: number, headers: Headers): boolean {
  const { version, l3, payload, end } = headers;
  if (end !== bytes || payload === end || !headers.plain) return false;
  return version === 6 || checksum(sum(view, offset + l3, FIXED_IPV4)) === 0;
}

/**
 * Whether the packets at `head` and `next` have the same headers, except for fields that may differ within a chain. The
 * positions of their headers must be the same. `next` would be segment number `segments`, counted from 0.
 */
export function sameHeaders(
  view: DataView,
  head: number,
  next: number,
  { version, l3, l4, payload }: Headers,
  segments: number,
): boolean {
  if (!same(view, head, next, l3)) return false;
  const network =
    version === 4 ? sameIpv4(view, head + l3, next + l3, segments) : sameIpv6(view, head + l3, next + l3);
  return network && sameTcp(view, head + l4, next + l4, payload - l4);
}

function same(view: DataView, a: number, b: number, count: number): boolean {
  let i = 0;
  for (; i <= count - 4; i += 4) if (view.getInt32(a + i) !== view.getInt32(b + i)) return false;
  return i === count || view.getUint16(a + i) === view.getUint16(b + i);
}

/** Compares all but total length, identification and checksum. */
function sameIpv4(view: DataView, head: number, next: number, segments: number): boolean {
  if (view.getUint16(head) !== view.getUint16(next) || !same(view, head + 6, next + 6, 4)) return false;
  if (!same(view, head + 12, next + 12, 8)) return false;
  if ((view.getUint16(head + 6) & DONT_FRAGMENT) !== 0) return true;
  return view.getUint16(next + 4) === ((view.getUint16(head + 4) + segments) & 0xffff);
}

/** Compares all but the payload length. */
function sameIpv6(view: DataView, head: number, next: number): boolean {
  return view.getInt32(head) === view.getInt32(next) && same(view, head + 6, next + 6, 34);
}

/** Compares all but sequence number, checksum, PSH and FIN. The window must be the same, as in the kernel's GRO. */
function sameTcp(view: DataView, head: number, next: number, count: number): boolean {
  if (view.getInt32(head) !== view.getInt32(next) || view.getInt32(head + 8) !== view.getInt32(next + 8)) {
    return false;
  }
  if (((view.getInt32(head + 12) ^ view.getInt32(next + 12)) & ~(LAST << 16)) !== 0) return false;
  return same(view, head + 18, next + 18, count - 18);
}
