/**
 * The devices of a machine that a port could be opened on. Pure logic over a {@link Snapshot}; any thread. NB: a snapshot may
 * already be outdated.
 */
import { ARPHRD_ETHER, type InterfaceAddress, type Link, type RtNetlink } from '../kernel/rtnetlink.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { type Kind, type KindName, kindOf } from './kinds.ts';
import { parentOf } from './netvsc.ts';
import { usageOf } from './usage.ts';

export interface Snapshot {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  /** ifindexes that carry a default route. */
  readonly defaultRoutes: readonly number[];
  readonly sysfs: Sysfs;
}

export interface Found {
  readonly kind: KindName;
  readonly netvsc: Link;
  /** `undefined` for a card alone. */
  readonly vf: Link | undefined;
  /** See `Kind.standby`. */
  readonly standby: Link | undefined;
  /** '' when unknown. */
  readonly driver: string;
  readonly vfDriver: string;
  /** Receive queues that the driver allocated, used or not; 0 without a VF. */
  readonly queues: number;
  readonly vfQueues: number;
  /** Without IPv6 link-local addresses; of the NetVSC, its legs and the devices stacked on them. */
  readonly addresses: string[];
  readonly defaultRoute: boolean;
  /** Whether openPort() without a name could take it. */
  readonly free: boolean;
  /** Why not; '' when free. */
  readonly reason: string;
}

/** A device with addresses, and its kind. */
interface Upper {
  readonly netvsc: Link;
  readonly kind: Kind;
}

export const NO_HISTORY = { ours: new Set<number>() };

export function takeSnapshot(rtnetlink: RtNetlink, sysfs: Sysfs): Snapshot {
  return {
    links: rtnetlink.links(),
    addresses: rtnetlink.addresses(),
    defaultRoutes: rtnetlink.defaultRoutes(),
    sysfs,
  };
}

/** Every pair of the machine, by ifindex. */
export function discover(snapshot: Snapshot): Found[] {
  const { sysfs } = snapshot;
  return pairs(snapshot).map(({ netvsc, kind }) => {
    const vf = kind.vf(netvsc, snapshot, NO_HISTORY);
    const standby = kind.standby(netvsc, snapshot);
    const { addresses, defaultRoute, reason } = usageOf(snapshot, netvsc, [vf, standby]);
    return {
      kind: kind.name,
      netvsc,
      vf,
      standby,
      // The parent of a net_failover device is its virtio card.
      driver: kind.name === 'net_failover' ? kind.name : driverName(netvsc, sysfs),
      vfDriver: vf ? driverName(vf, sysfs) : '',
      queues: netvsc.numRxQueues,
      vfQueues: vf?.numRxQueues ?? 0,
      addresses,
      defaultRoute,
      free: reason === '',
      reason,
    };
  });
}

/** All other network cards, by ifindex: openPort() takes them only by name. */
export function cards(snapshot: Snapshot): Found[] {
  const { links, sysfs } = snapshot;
  const all = pairs(snapshot);
  return links
    .filter((link) => link.type === ARPHRD_ETHER && link.kind === '' && parentOf(link, sysfs) !== undefined)
    .filter((link) => !all.some((upper) => belongs(snapshot, upper, link)))
    .map((netvsc) => {
      const { addresses, defaultRoute, reason } = usageOf(snapshot, netvsc, []);
      return {
        kind: 'card',
        netvsc,
        vf: undefined,
        standby: undefined,
        driver: driverName(netvsc, sysfs),
        vfDriver: '',
        queues: netvsc.numRxQueues,
        vfQueues: 0,
        addresses,
        defaultRoute,
        free: false,
        reason: ['is one card alone', reason].filter((part) => part !== '').join(', '),
      };
    });
}

/** The devices with the addresses of all pairs, by ifindex. */
export function pairs(snapshot: Snapshot): Upper[] {
  const found = snapshot.links.map((netvsc) => ({ netvsc, kind: kindOf(netvsc, snapshot) }));
  return found
    .filter((one): one is Upper => one.kind !== undefined)
    .sort((a, b) => a.netvsc.ifindex - b.netvsc.ifindex);
}

/** Whether a link belongs to that pair. */
export function belongs(snapshot: Snapshot, { netvsc, kind }: Upper, link: Link): boolean {
  const standby = kind.standby(netvsc, snapshot);
  return (
    [netvsc.ifindex, standby?.ifindex].includes(link.ifindex) ||
    kind.mayBeVf(netvsc, link, snapshot, NO_HISTORY)
  );
}

export function driverName(link: Link, sysfs: Sysfs): string {
  const parent = parentOf(link, sysfs);
  return (parent && (sysfs.driverOf(parent) ?? sysfs.driver(link.name))) ?? '';
}
