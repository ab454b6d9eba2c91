/** What the kernel counts of an AF_XDP socket: struct xdp_statistics, include/uapi/linux/if_xdp.h. Any thread. */
import type { Shim } from './shim.ts';

export const SOL_XDP = 283;
const XDP_STATISTICS = 7;
const BYTES = 48;
/** Up to Linux 5.8 the last three are not there. */
const MIN_BYTES = 24;

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
  if (shim.getsockopt(fd, SOL_XDP, XDP_STATISTICS, raw, BYTES) < MIN_BYTES) return undefined;
  const counted = Array.from(raw, Number);
  return {
    ...{ rxDropped: counted[0]!, rxInvalid: counted[1]!, txInvalid: counted[2]! },
    ...{ rxRingFull: counted[3]!, rxFillEmpty: counted[4]! },
  };
}

/** Transmit descriptors that the kernel did not accept, and passed over; -1 if it does not say. */
export function passedOver(shim: Shim, fd: number): number {
  return xdpStatistics(shim, fd)?.txInvalid ?? -1;
}
