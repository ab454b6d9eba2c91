/**
 * Writes IPv4 and IPv6 headers without options into a packet. Each function returns the position after the header. Allocates
 * nothing, if `fields` is an object that the caller keeps; worker thread. A header that does not fit throws a RangeError.
 */
import type { PacketView } from '../handler/packet-view.ts';
import { checksum, sum } from '../net/checksum.ts';
import { IPV4_BYTES, Ipv4Field } from '../net/ipv4.ts';
import { IPV6_BYTES, Ipv6Field } from '../net/ipv6.ts';

export { IPV4_BYTES, IPV6_BYTES };

/** Copies: V8 loads and checks an imported value with each use. */
const BYTES4 = IPV4_BYTES;
const BYTES6 = IPV6_BYTES;
const { LENGTH, FRAGMENT, PROTOCOL, CHECKSUM, ADDRESSES } = Ipv4Field;
const { LENGTH: LENGTH6, NEXT_HEADER, ADDRESSES: ADDRESSES6 } = Ipv6Field;
const ADDRESS6 = 16;
const MOST = 0xffff;

/** What an IPv4 header may have besides protocol, addresses and length. */
export interface Ipv4Fields {
  /** Time to live. Default 64. */
  readonly ttl?: number;
  /** DSCP (6 bits) and ECN (2). Default 0. */
  readonly trafficClass?: number;
  /** Default 0, which RFC 6864 allows in a packet that must not be fragmented. */
  readonly identification?: number;
  /** Flags (3 bits) and fragment offset (13). Default 0x4000, don't fragment. */
  readonly fragment?: number;
}

/** The same for IPv6. */
export interface Ipv6Fields {
  /** Default 64. */
  readonly hopLimit?: number;
  /** DSCP (6 bits) and ECN (2). Default 0. */
  readonly trafficClass?: number;
  /** 20 bits. Default 0. */
  readonly flowLabel?: number;
}

const DEFAULTS4: Ipv4Fields = {};
const DEFAULTS6: Ipv6Fields = {};

/**
 * Writes an IPv4 header of 20 bytes with its checksum.
 *
 * @param source 32 bits, as of `ipv4Number`, signed or not
 * @param destination likewise
 * @param protocol of {@link Protocol}
 * @param payload bytes after the header
 * @returns `at` + 20
 * @throws RangeError also if the packet would have more than 65535 bytes
 */
export function writeIpv4(
  packet: PacketView,
  at: number,
  source: number,
  destination: number,
  protocol: number,
  payload: number,
  fields: Ipv4Fields = DEFAULTS4,
): number {
  const { ttl = 64, trafficClass = 0, identification = 0, fragment = 0x4000 } = fields;
  const total = BYTES4 + payload;
  if (payload < 0 || total > MOST) throw tooLong(payload);
  packet.setU16(at, 0x4500 | (trafficClass & 0xff));
  packet.setU16(at + LENGTH, total);
  packet.setU16(at + 4, identification);
  packet.setU16(at + FRAGMENT, fragment);
  packet.setU8(at + 8, ttl);
  packet.setU8(at + PROTOCOL, protocol);
  packet.setU16(at + CHECKSUM, 0);
  packet.setU32(at + ADDRESSES, source);
  packet.setU32(at + ADDRESSES + 4, destination);
  packet.setU16(at + CHECKSUM, checksum(sum(packet.view, packet.offset + at, BYTES4)));
  return at + BYTES4;
}

/**
 * Writes an IPv6 header of 40 bytes.
 *
 * @param source 16 bytes, as of `ipv6Bytes`
 * @param destination likewise
 * @param next the protocol, of {@link Protocol}, or the first extension header's number
 * @param payload bytes after the header
 * @returns `at` + 40
 * @throws RangeError also if the payload has more than 65535 bytes
 */
export function writeIpv6(
  packet: PacketView,
  at: number,
  source: Uint8Array,
  destination: Uint8Array,
  next: number,
  payload: number,
  fields: Ipv6Fields = DEFAULTS6,
): number {
  const { hopLimit = 64, trafficClass = 0, flowLabel = 0 } = fields;
  if (payload < 0 || payload > MOST) throw tooLong(payload);
  packet.setU32(at, 0x6000_0000 | ((trafficClass & 0xff) << 20) | (flowLabel & 0xfffff));
  packet.setU16(at + LENGTH6, payload);
  packet.setU8(at + NEXT_HEADER, next);
  packet.setU8(at + 7, hopLimit);
  packet.write(at + ADDRESSES6, source);
  packet.write(at + ADDRESSES6 + ADDRESS6, destination);
  return at + BYTES6;
}

function tooLong(payload: number): RangeError {
  return new RangeError(`${payload} bytes do not fit an IP packet`);
}
