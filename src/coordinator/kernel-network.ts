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
import { AfXdpDevice } from '../paths/af-xdp/device.ts';
import type { TieKind } from '../paths/hook.ts';
import { HostDevice } from '../paths/host/device.ts';
import type { PathDevice } from '../paths/path.ts';
import { TapDevice, type TapOptions } from '../paths/tap/device.ts';
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

/** A path over a device that Twinpath makes itself. */
interface Own {
  readonly device: { readonly ifindex: number };
  /** Its link has reached the table: only then does its absence mean that it was deleted. */
  seen: boolean;
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
  readonly #own = new Map<PathId, Own>();
  #netvsc: Link;

  constructor(
    shim: Shim,
    memory: Memory,
    port: number,
    table: LinkTable,
    sysfs: Sysfs,
    { netvsc, forced }: Choice,
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
    return [this.#netvsc.ifindex, ...[...this.#own.values()].map(({ device }) => device.ifindex)];
  }

  endpoint(path: PathId): Endpoint | undefined {
    const netvsc = this.#find();
    if (path === Path.HOST && this.#options.host === 'off') return undefined;
    if (path !== Path.VF) return netvsc === undefined || this.#lost(path) ? undefined : endpointOf(netvsc);
    const rules = { forced: this.#forced, sysfs: this.#sysfs, ours: new Set(this.taken) };
    const vf = netvsc && findVf(netvsc, this.#table.links, rules);
    return vf && endpointOf(vf);
  }

  make(path: PathId, { key }: Endpoint): PathDevice {
    if (path === Path.VF) {
      const link = this.#table.netlink.link(key) ?? this.#table.link(key)!;
      const { rss, rssKey, host } = this.#options;
      const options = { rss, rssKey, segments: host === 'inline' };
      return new AfXdpDevice(this.#shim, this.#memory, this.#port, path, link, options);
    }
    const { tap, tie, host } = this.#options;
    const place = [this.#shim, this.#table.netlink, this.#memory, this.#port] as const;
    const device =
      path === Path.HOST
        ? new HostDevice(...place, this.#netvsc, { tie, inline: host === 'inline' })
        : new TapDevice(...place, path, this.#netvsc, tap);
    this.#own.set(path, { device, seen: false });
    return device;
  }

  /** Somebody may delete a tap from under us: then the path is gone although the NetVSC is not. */
  #lost(path: PathId): boolean {
    const own = this.#own.get(path);
    if (own === undefined || own.device.ifindex === 0) return false;
    const there = this.#table.link(own.device.ifindex) !== undefined;
    const lost = own.seen && !there;
    own.seen ||= there;
    if (lost) this.#own.delete(path);
    return lost;
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
