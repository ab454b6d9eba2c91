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
import { AfXdpDevice } from '../paths/af-xdp/device.ts';
import type { PathDevice } from '../paths/path.ts';
import { TapDevice, type TapOptions } from '../paths/tap/device.ts';
import type { Choice } from './discovery.ts';
import type { LinkTable } from './link-table.ts';
import { isNetvsc } from './netvsc.ts';
import type { Endpoint, PortNetwork } from './network.ts';
import { findVf } from './pairing.ts';

export class KernelNetwork implements PortNetwork {
  readonly mac: string;
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #table: LinkTable;
  readonly #sysfs: Sysfs;
  readonly #forced: boolean;
  readonly #tap: TapOptions;
  #netvsc: Link;
  #tapDevice: TapDevice | undefined;
  /** The tap whose link has reached the table: only then does its absence mean that it was deleted. */
  #tapSeen = 0;

  constructor(
    shim: Shim,
    memory: Memory,
    port: number,
    table: LinkTable,
    sysfs: Sysfs,
    { netvsc, forced }: Choice,
    tap: TapOptions,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#table = table;
    this.#sysfs = sysfs;
    this.#forced = forced;
    this.#netvsc = netvsc;
    this.#tap = tap;
    this.mac = netvsc.address;
  }

  get device(): string {
    return this.#netvsc.name;
  }

  /** ifindexes that belong to this port and so to no other. */
  get taken(): number[] {
    return [this.#netvsc.ifindex, ...(this.#tapDevice ? [this.#tapDevice.ifindex] : [])];
  }

  endpoint(path: PathId): Endpoint | undefined {
    const netvsc = this.#find();
    if (path === Path.SYNTHETIC) {
      // Somebody may delete the tap from under us: then the path is gone although the NetVSC is not.
      const tap = this.#tapDevice?.ifindex ?? 0;
      if (tap !== 0 && this.#table.link(tap) !== undefined) this.#tapSeen = tap;
      const lost = tap !== 0 && this.#tapSeen === tap && this.#table.link(tap) === undefined;
      if (lost) this.#tapDevice = undefined;
      if (netvsc === undefined || lost) return undefined;
      return endpointOf(netvsc);
    }
    const rules = { forced: this.#forced, sysfs: this.#sysfs, ours: new Set(this.taken) };
    const vf = netvsc && findVf(netvsc, this.#table.links, rules);
    return vf && endpointOf(vf);
  }

  make(path: PathId, { key }: Endpoint): PathDevice {
    if (path === Path.VF) {
      const link = this.#table.netlink.link(key) ?? this.#table.link(key)!;
      return new AfXdpDevice(this.#shim, this.#memory, this.#port, path, link);
    }
    this.#tapDevice = new TapDevice(
      this.#shim,
      this.#table.netlink,
      this.#memory,
      this.#port,
      path,
      this.#netvsc,
      this.#tap,
    );
    return this.#tapDevice;
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
