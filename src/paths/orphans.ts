/**
 * Puts back what killed ports have changed, on every device of the namespace: a start may use other devices than the process
 * that was killed. Coordinator only.
 */
import { lockName } from '../kernel/device-lock.ts';
import type { EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import type { Link, RtNetlink } from '../kernel/rtnetlink.ts';
import type { SettingsStore } from '../kernel/settings-store.ts';
import { putBackMerging, putBackSettings } from './af-xdp/settings.ts';
import { putBackLink } from './link-configuration.ts';

export interface Kernel {
  readonly ethtool: EthtoolNetlink;
  readonly netlink: RtNetlink;
}

export function putBackOrphans(
  { ethtool, netlink }: Kernel,
  store: SettingsStore,
  links: readonly Link[],
): void {
  if (store.empty) return;
  for (const link of links) {
    const inUse = (of: SettingsStore): boolean => of.owner(link) !== 0;
    // A device with an XDP program or a living owner is in use, perhaps by a port in another PID namespace.
    if (link.xdpProgram === 0) {
      if (!inUse(store)) putBackSettings(ethtool, store, link);
      if (!inUse(store.for('vf-link'))) putBackLink(netlink, store.for('vf-link'), link);
    }
    if (links.some(({ name }) => name === lockName(link.ifindex))) continue;
    if (!inUse(store.for('netvsc'))) putBackMerging(ethtool, store, link);
    if (!inUse(store.for('netvsc-link'))) putBackLink(netlink, store.for('netvsc-link'), link);
  }
}
