/** The networks of the ports of a group: chosen when the ports are opened, or taken over from a coordinator that died. */

import type { TwinpathError } from '../errors.ts';
import { lockDevice } from '../kernel/device-lock.ts';
import { SettingsStore } from '../kernel/settings-store.ts';
import type { Shim } from '../kernel/shim.ts';
import { Sysfs } from '../kernel/sysfs.ts';
import type { Memory } from '../memory/shared.ts';
import { putBackOrphans } from '../paths/orphans.ts';
import type { Settings } from '../settings.ts';
import { choose, hasDefaultRoute, refuseToCut } from './discovery.ts';
import { takeSnapshot } from './inventory.ts';
import { KernelNetwork } from './kernel-network.ts';
import type { KernelHoldings, KernelOptions } from './kernel-options.ts';
import { KINDS } from './kinds.ts';
import { type LinkEvents, LinkTable } from './link-table.ts';
import type { PortHoldings } from './managed-port.ts';
import { type MemoryHoldings, MemoryNetwork } from './memory-network.ts';
import type { PortNetwork } from './network.ts';

/** Everything that the coordinator of a group holds, as the checkpoint has it. Plain data. */
export interface GroupHoldings {
  /** Descriptors of the device locks. */
  readonly locks: readonly number[];
  readonly ports: readonly PortHoldings[];
}

/** The group whose ports these are. */
export interface GroupContext {
  /** Reports an error that the ports go on without. */
  readonly report: (error: TwinpathError, port?: number) => void;
  readonly shim: Shim;
  readonly memory: Memory;
  readonly settings: Settings;
}

export class Networks {
  /** One for each port. */
  readonly list: readonly PortNetwork[];
  /** Descriptors of the device locks. */
  readonly locks: readonly number[];
  readonly table: LinkTable | undefined;
  readonly #shim: Shim;

  private constructor(
    shim: Shim,
    list: readonly PortNetwork[],
    locks: readonly number[] = [],
    table?: LinkTable,
  ) {
    this.#shim = shim;
    this.list = list;
    this.locks = locks;
    this.table = table;
  }

  /** Chooses the devices of the ports, and locks them. @throws TwinpathError, after everything was undone */
  static choose(context: GroupContext, events: LinkEvents): Networks {
    const { shim, memory, settings, report } = context;
    const { ports, network, host, cutHost, protect, ignore, unused } = settings;
    if (network !== 'kernel') {
      return new Networks(
        shim,
        ports.map((_, port) => inMemory(memory, settings, port)),
      );
    }
    const table = new LinkTable(shim, events);
    const locks: number[] = [];
    try {
      const store = SettingsStore.open(shim);
      putBackOrphans(table, store, table.links);
      const sysfs = new Sysfs();
      const taken = new Set<number>();
      const list = ports.map((wanted, port) => {
        const snapshot = takeSnapshot(table.netlink, sysfs);
        const choice = choose(snapshot, { ...wanted, vf: wanted.vf || undefined, ignore, unused }, taken);
        if (host === 'off' && !cutHost) refuseToCut(snapshot, choice);
        locks.push(lockDevice(shim, table.netlink, choice.netvsc));
        taken.add(choice.netvsc.ifindex);
        const standby = KINDS[choice.kind].standby(choice.netvsc, snapshot);
        for (const leg of [choice.vf, standby]) if (leg !== undefined) taken.add(leg.ifindex);
        const protects =
          protect ?? (host !== 'off' && hasDefaultRoute(snapshot, choice) ? 'platform' : 'none');
        const chosen = { ...choice, protect: protects === 'platform' };
        const options = optionsOf(settings, port, store, (error) => report(error, port));
        return new KernelNetwork(shim, memory, port, table, sysfs, chosen, options);
      });
      return new Networks(shim, list, locks, table);
    } catch (error) {
      table.close();
      for (const fd of locks) shim.close(fd);
      throw error;
    }
  }

  /** Makes the networks that another coordinator had. @throws TwinpathError */
  static resume(
    { shim, memory, settings, report }: GroupContext,
    holdings: GroupHoldings,
    events: LinkEvents,
  ): Networks {
    const { locks, ports } = holdings;
    if (settings.network !== 'kernel') {
      return new Networks(
        shim,
        ports.map(({ network }, port) => inMemory(memory, settings, port).resume(network as MemoryHoldings)),
      );
    }
    const table = new LinkTable(shim, events);
    const sysfs = new Sysfs();
    const list = ports.map(({ network }, port) => {
      const choice = network as KernelHoldings;
      const options = optionsOf(settings, port, SettingsStore.open(shim), (error) => report(error, port));
      return new KernelNetwork(shim, memory, port, table, sysfs, choice, options);
    });
    return new Networks(shim, list, locks, table);
  }

  close(): void {
    this.table?.close();
    for (const fd of this.locks) this.#shim.close(fd);
  }
}

/** A file is played into the first port, which has the address that belongs to it. */
function inMemory(memory: Memory, { network, replay }: Settings, port: number): MemoryNetwork {
  return new MemoryNetwork(memory, port, network === 'loop', port === 0 ? replay : undefined);
}

function optionsOf(
  { ports, tap, redirect, redirectOrder: order, xdp, host, rss, rssKey }: Settings,
  port: number,
  store: SettingsStore,
  report: KernelOptions['report'],
): KernelOptions {
  return {
    tap: { plain: tap === 'read/write', redirect, order, inline: host === 'inline' },
    host,
    redirect,
    order,
    vf: ports[port]!.vf !== false,
    native: xdp === 'native',
    rss,
    rssKey,
    store,
    report,
  };
}
