/**
 * The statistics that a driver has beyond the kernel's own, as `ethtool -S` shows them: names and numbers are the driver's.
 * Netlink has no message for them, so these are ioctls by the device's current name: see device-ioctl.ts. Each takes RTNL, and
 * some drivers ask their firmware. Coordinator thread and command line. Formats: include/uapi/linux/ethtool.h.
 *
 * NB: kernels before 6.19 write as many names and numbers as the device has at that moment, whatever there is room for. (Commit
 * 7b07be1ff1cb, in stable kernels too, writes nothing if their number is not the requested one.) It changes with the channels,
 * and the name may have passed to another device. So there is room for far more than the device has just reported.
 */
import { ethtool } from './device-ioctl.ts';
import { decodeString } from './netlink.ts';
import type { Shim } from './shim.ts';

const ETHTOOL_GSTRINGS = 0x1b;
const ETHTOOL_GSTATS = 0x1d;
const ETHTOOL_GSSET_INFO = 0x37;
const ETH_SS_STATS = 1;
const STRING_BYTES = 32;

/** struct ethtool_sset_info, ethtool_gstrings and ethtool_stats: where their arrays begin. */
const SET_INFO = { mask: 8, count: 16, bytes: 20 } as const;
const STRINGS = { set: 4, count: 8, names: 12 } as const;
const STATS = { count: 4, values: 8 } as const;

/** No device has so many: mlx5 has some 60 per channel. */
const MIN_ROOM = 32_768;
/** How often everything is read again if the number of statistics changes meanwhile. */
const ATTEMPTS = 5;

/** By name; empty if the driver has none, or the device is gone. @throws ERR_KERNEL if no socket can be opened */
export function driverStatistics(shim: Shim, ifindex: number): Map<string, number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const count = statisticsCount(shim, ifindex);
    if (count === 0) break;
    const names = statisticsNames(shim, ifindex, count);
    const values = statisticsValues(shim, ifindex, count);
    if (names === undefined || values === undefined) continue;
    return new Map(names.map((name, i) => [name, values[i]!]));
  }
  return new Map();
}

function statisticsCount(shim: Shim, ifindex: number): number {
  const request = new DataView(new ArrayBuffer(SET_INFO.bytes));
  request.setUint32(0, ETHTOOL_GSSET_INFO, true);
  request.setUint32(SET_INFO.mask, 1 << ETH_SS_STATS, true);
  if (ethtool(shim, ifindex, request) < 0) return 0;
  // A device without statistics clears the bit.
  return request.getUint32(SET_INFO.mask, true) === 0 ? 0 : request.getUint32(SET_INFO.count, true);
}

/** Undefined if their number has changed. */
function statisticsNames(shim: Shim, ifindex: number, count: number): string[] | undefined {
  const request = roomFor(count, STRINGS.names, STRING_BYTES);
  request.setUint32(0, ETHTOOL_GSTRINGS, true);
  request.setUint32(STRINGS.set, ETH_SS_STATS, true);
  request.setUint32(STRINGS.count, count, true);
  if (ethtool(shim, ifindex, request) < 0 || request.getUint32(STRINGS.count, true) !== count)
    return undefined;
  return Array.from({ length: count }, (_, i) =>
    decodeString(new Uint8Array(request.buffer, STRINGS.names + i * STRING_BYTES, STRING_BYTES)).trim(),
  );
}

/** Undefined if their number has changed. */
function statisticsValues(shim: Shim, ifindex: number, count: number): number[] | undefined {
  const request = roomFor(count, STATS.values, 8);
  request.setUint32(0, ETHTOOL_GSTATS, true);
  request.setUint32(STATS.count, count, true);
  if (ethtool(shim, ifindex, request) < 0 || request.getUint32(STATS.count, true) !== count) return undefined;
  return Array.from({ length: count }, (_, i) => Number(request.getBigUint64(STATS.values + i * 8, true)));
}

function roomFor(count: number, head: number, each: number): DataView {
  return new DataView(new ArrayBuffer(head + Math.max(MIN_ROOM, 4 * count) * each));
}
