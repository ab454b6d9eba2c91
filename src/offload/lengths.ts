/**
 * Lengths and checksums in the headers of a chain's first packet: rewrites them for one large segment, and back. IPv4
 * without options or IPv6 without extension headers is at `ip`, TCP at `tcp`; `transport` is the bytes of TCP with its
 * header.
 *
 * In place; allocates nothing.
 */
import { checksum, fold, sum } from '../net/checksum.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';

const isIpv4 = (view: DataView, ip: number): boolean => view.getUint8(ip) >>> 4 === 4;

/**
 * Makes the packet a large segment with an unfinished checksum: the field holds the sum of the pseudo header, which is
 * `pseudo` and the length.
 *
 * @returns the old checksums, for {@link makeSingle}
 */
export function makeWhole(
  view: DataView,
  ip: number,
  tcp: number,
  transport: number,
  pseudo: number,
): number {
  let checks = view.getUint16(tcp + 16);
  view.setUint16(tcp + 16, fold(pseudo + transport));
  if (isIpv4(view, ip)) {
    checks |= view.getUint16(ip + 10) << 16;
    view.setUint16(ip + 2, IPV4_BYTES + transport);
    view.setUint16(ip + 10, 0);
    view.setUint16(ip + 10, checksum(sum(view, ip, IPV4_BYTES)));
  } else view.setUint16(ip + 4, transport);
  return checks;
}

export function makeSingle(view: DataView, ip: number, tcp: number, transport: number, checks: number): void {
  view.setUint16(tcp + 16, checks & 0xffff);
  if (isIpv4(view, ip)) {
    view.setUint16(ip + 2, IPV4_BYTES + transport);
    view.setUint16(ip + 10, checks >>> 16);
  } else view.setUint16(ip + 4, transport);
}
