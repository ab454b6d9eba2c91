/** The kernel's counters of an AF_XDP socket: struct xdp_statistics, include/uapi/linux/if_xdp.h. Any thread. */
import type { Shim } from './shim.ts';

export const SOL_XDP = 283;
const XDP_STATISTICS = 7;
const BYTES = 48;
/** Linux up to 5.8 has only the first three counters. */
const MIN_BYTES = 24;

export interface XdpStatistics {
  readonly rxDropped: number;
  readonly rxInvalid: number;
  readonly txInvalid: number;
  readonly rxRingFull: number;
  readonly rxFillEmpty: number;
}

/** undefined if the kernel does not report them. */
export function xdpStatistics(shim: Shim, fd: number): XdpStatistics | undefined {
  const raw = new BigUint64Array(BYTES / 8);
  if (shim.getsockopt(fd, SOL_XDP, XDP_STATISTICS, raw, BYTES) < MIN_BYTES) return undefined;
  const [rxDropped = 0, rxInvalid = 0, txInvalid = 0, rxRingFull = 0, rxFillEmpty = 0] = Array.from(
    raw,
    Number,
  );
  return { rxDropped, rxInvalid, txInvalid, rxRingFull, rxFillEmpty };
}

/** Transmit descriptors that the kernel found invalid and skipped; -1 if it does not report them. */
export function passedOver(shim: Shim, fd: number): number {
  return xdpStatistics(shim, fd)?.txInvalid ?? -1;
}
