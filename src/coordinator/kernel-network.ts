/**
 * A port on real devices: the NetVSC through a tap, its VF through AF_XDP. Coordinator thread only.
 *
 * The NetVSC is known by its ifindex, and by its permanent MAC if it ever goes and another one comes. The VF
 * is found anew at every look, so it may return under any name, ifindex or PCI address.
 */
import { IFF, type Link } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { Path, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { HostMode, RssMode } from '../options.ts';
import { AfXdpDevice, type AfXdpHoldings } from '../paths/af-xdp/device.ts';
import type { TieKind } from '../paths/hook.ts';
import { HostDevice, type HostHoldings } from '../paths/host/device.ts';
import type { PathDevice } from '../paths/path.ts';
import { TapDevice, type TapHoldings, type TapOptions } from '../paths/tap/device.ts';
import { type Report, Upkeep } from '../paths/upkeep.ts';
import type { Choice } from './discovery.ts';
import type { LinkTable } from './link-table.ts';
import { isNetvsc } from './netvsc.ts';
import type { Endpoint, PortNetwork } from './network.ts';
import { findVf } from './pairing.ts';

export interface KernelOptions {
  readonly tap: TapOptions;
  readonly tie: TieKind;
  readonly host: HostMode;
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
}

export interface KernelHoldings {
  readonly netvsc: Link;
  readonly forced: boolean;
}

export class KernelNetwork implements PortNetwork {
  readonly mac: string;
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #table: LinkTable;
  readonly #sysfs: Sysfs;
  readonly #forced: boolean;
  readonly #options: KernelOptions;
  /** Devices that Twinpath makes itself. */
  readonly #own = new Map<PathId, { readonly ifindex: number }>();
  readonly #upkeep = new Map<PathId, Upkeep>();
  #netvsc: Link;

  constructor(
    shim: Shim,
    memory: Memory,
    port: number,
    table: LinkTable,
    sysfs: Sysfs,
    { netvsc, forced }: Pick<Choice, 'netvsc' | 'forced'>,
    options: KernelOptions,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#table = table;
    this.#sysfs = sysfs;
    this.#forced = forced;
    this.#netvsc = netvsc;
    this.#options = options;
    this.mac = netvsc.address;
  }

  get device(): string {
    return this.#netvsc.name;
  }

  /** ifindexes that belong to this port and so to no other. */
  get taken(): number[] {
    return [this.#netvsc.ifindex, ...[...this.#own.values()].map(({ ifindex }) => ifindex)];
  }

  endpoint(path: PathId): Endpoint | undefined {
    const netvsc = this.#find();
    if (path === Path.HOST && this.#options.host === 'off') return undefined;
    if (path !== Path.VF) return netvsc && endpointOf(netvsc);
    const rules = { forced: this.#forced, sysfs: this.#sysfs, ours: new Set(this.taken) };
    const vf = netvsc && findVf(netvsc, this.#table.links, rules);
    return vf && endpointOf(vf);
  }

  get holdings(): KernelHoldings {
    return { netvsc: this.#netvsc, forced: this.#forced };
  }

  make(path: PathId, { key }: Endpoint): PathDevice {
    if (path === Path.VF) return this.#vf(this.#table.netlink.link(key) ?? this.#table.link(key)!);
    return path === Path.HOST ? this.#host(this.#netvsc) : this.#tap(this.#netvsc);
  }

  adopt(path: PathId, _: Pick<Endpoint, 'key'>, holdings: unknown): PathDevice {
    const { link } = holdings as { link: Link };
    if (path === Path.VF) return this.#vf(link).adopt(holdings as AfXdpHoldings);
    if (path === Path.HOST) return this.#host(link).adopt(holdings as HostHoldings);
    return this.#tap(link).adopt(holdings as TapHoldings);
  }

  #vf(link: Link): AfXdpDevice {
    const { rss, rssKey, host } = this.#options;
    const options = { rss, rssKey, segments: host === 'inline' };
    return new AfXdpDevice(this.#shim, this.#memory, this.#port, Path.VF, link, options);
  }

  #host(link: Link): HostDevice {
    const { tie, host } = this.#options;
    const options = { tie, inline: host === 'inline' };
    return this.#made(
      Path.HOST,
      new HostDevice(this.#shim, this.#table.netlink, this.#memory, this.#port, link, options),
    );
  }

  #tap(link: Link): TapDevice {
    const place = [this.#shim, this.#table.netlink, this.#memory, this.#port, Path.SYNTHETIC] as const;
    return this.#made(Path.SYNTHETIC, new TapDevice(...place, link, this.#options.tap));
  }

  #made<T extends TapDevice | HostDevice>(path: PathId, device: T): T {
    this.#own.set(path, device);
    return device;
  }

  tend(path: PathId, device: PathDevice, thorough: boolean, report: Report): boolean {
    const netvsc = this.#find();
    if (netvsc === undefined) return true; // which is told, and more than can be mended
    const upkeep = this.#upkeep.get(path) ?? new Upkeep(report);
    this.#upkeep.set(path, upkeep);
    try {
      device.tend?.({ links: this.#table, netvsc, upkeep, thorough });
      return true;
    } catch (error) {
      upkeep.failed(error);
      return false;
    }
  }

  #find(): Link | undefined {
    const known = this.#table.link(this.#netvsc.ifindex);
    if (known !== undefined) {
      this.#netvsc = known;
      return known;
    }
    const again = this.#table.links.find(
      (link) =>
        link.address === this.mac &&
        (isNetvsc(link, this.#sysfs) || (this.#forced && link.name === this.#netvsc.name)),
    );
    if (again !== undefined) this.#netvsc = again;
    return again;
  }
}

function endpointOf(link: Link): Endpoint {
  return { key: link.ifindex, name: link.name, up: (link.flags & IFF.UP) !== 0, carrier: link.carrier };
}
