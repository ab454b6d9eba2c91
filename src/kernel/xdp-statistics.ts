/** What the kernel counts of an AF_XDP socket: struct xdp_statistics, include/uapi/linux/if_xdp.h. Any thread. */
import type { Shim } from './shim.ts';

const SOL_XDP = 283;
const XDP_STATISTICS = 7;
const BYTES = 48;
/** Up to Linux 5.8 the last three are not there. */
const LEAST_BYTES = 24;

export interface XdpStatistics {
  readonly rxDropped: number;
  readonly rxInvalid: number;
  readonly txInvalid: number;
  readonly rxRingFull: number;
  readonly rxFillEmpty: number;
}

/** undefined if the kernel does not say. */
export function xdpStatistics(shim: Shim, fd: number): XdpStatistics | undefined {
  const raw = new BigUint64Array(BYTES / 8);
  if (shim.getsockopt(fd, SOL_XDP, XDP_STATISTICS, raw, BYTES) < LEAST_BYTES) return undefined;
  const [rxDropped, rxInvalid, txInvalid, rxRingFull, rxFillEmpty] = Array.from(raw, Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  return { rxDropped, rxInvalid, txInvalid, rxRingFull, rxFillEmpty };
}

/** Transmit descriptors that the kernel did not accept, and passed over; -1 if it does not say. */
export function passedOver(shim: Shim, fd: number): number {
  return xdpStatistics(shim, fd)?.txInvalid ?? -1;
}
