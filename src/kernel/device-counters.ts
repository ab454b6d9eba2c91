/**
 * Everything that the kernel and the driver count about a device. Takes RTNL, and some drivers ask their firmware: coordinator
 * thread and command line only.
 */
import { driverStatistics } from './driver-statistics.ts';
import type { RtNetlink } from './rtnetlink.ts';
import type { Shim } from './shim.ts';

export interface DeviceCounters {
  /** Identifies the device: its ifindex. */
  readonly key: number;
  /** The kernel's statistics, the same for every device: struct rtnl_link_stats64. */
  readonly link: Readonly<Record<string, number>>;
  /** The driver's own, as `ethtool -S` shows them; empty if it has none. */
  readonly driver: Readonly<Record<string, number>>;
}

/** What each path's device counts now; undefined for a path without a device. */
export interface CounterReadings {
  readonly synthetic: DeviceCounters | undefined;
  readonly vf: DeviceCounters | undefined;
  /** Packets that the port's MAC filter has left to the machine's own stack, at each path. Absent: they were not read. */
  readonly filtered?: { readonly synthetic: number; readonly vf: number } | undefined;
}

/** `undefined` if the device is gone. @throws ERR_KERNEL */
export function deviceCounters(shim: Shim, netlink: RtNetlink, ifindex: number): DeviceCounters | undefined {
  const link = netlink.counters(ifindex);
  if (link === undefined) return undefined;
  return { key: ifindex, link, driver: Object.fromEntries(driverStatistics(shim, ifindex)) };
}
