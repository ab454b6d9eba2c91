/** The configuration of a device, as the kernel tells others: what a port's configuration is compared with. */
import { execFileSync } from 'node:child_process';
import type { ConfigurationChange } from '../../dist/src/configuration.js';
import { IFF } from '../../src/kernel/rtnetlink.ts';
import type { Lab } from './harness.ts';
import { linkIn } from './machine-state.ts';

/** Addresses that tests ask for. */
export const UNICAST = ['02:00:00:00:00:07', '02:00:00:00:00:08', '02:00:00:00:00:09'];
export const MULTICAST = ['01:00:5e:00:00:fb', '33:33:00:01:00:02'];

/** A device that was asked for nothing. */
export const NOTHING = { unicast: [], multicast: [], promiscuous: false, allMulticast: false };

/** What a device has of a configuration, as the kernel tells others. */
export function configured(
  lab: Lab,
  name: string,
): Required<Pick<ConfigurationChange, 'mtu' | 'mac' | keyof typeof NOTHING>> {
  const { mtu, address, promiscuity } = linkIn(lab.guest, name)!;
  const inGuest = (...command: string[]): string =>
    execFileSync('ip', ['netns', 'exec', lab.guest, ...command], { encoding: 'utf8' });
  const entries = inGuest('bridge', 'fdb', 'show', 'dev', name).split('\n');
  const addresses = entries.filter((line) => /\bself\b/.test(line)).map((line) => line.split(' ')[0]!);
  const flags = Number(inGuest('cat', `/sys/class/net/${name}/flags`));
  const unicast = UNICAST.filter((one) => addresses.includes(one));
  // A device without a filter of its own is promiscuous once for all additional addresses (__dev_set_rx_mode).
  const asked = promiscuity - (unicast.length > 0 ? 1 : 0);
  return {
    ...{ mtu, mac: address },
    unicast,
    multicast: MULTICAST.filter((one) => addresses.includes(one)),
    promiscuous: asked > 0,
    allMulticast: (flags & IFF.ALLMULTI) !== 0,
  };
}
