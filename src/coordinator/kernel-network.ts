/**
 * A port on real devices: the NetVSC through a tap, its VF through AF_XDP; a card alone through both. Coordinator thread
 * only.
 *
 * The NetVSC is identified by its ifindex, and by its MAC if it disappears and another one appears. The VF is searched each
 * time, so it may return with another name, ifindex or PCI address. `observe` finds changed names, MAC addresses and MTUs.
 */
import type { TwinpathError } from '../errors.ts';
import { type DeviceCounters, deviceCounters } from '../kernel/device-counters.ts';
import { type DeviceInformation, deviceInformation } from '../kernel/device-information.ts';
import type { LinkModes } from '../kernel/ethtool-messages.ts';
import { NetdevNetlink } from '../kernel/netdev-netlink.ts';
import { IFF, type Link } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { Path, type PathId } from '../memory/layout.ts';
import { setMac } from '../memory/macs.ts';
import type { Memory } from '../memory/shared.ts';
import { AfXdpDevice, type AfXdpHoldings } from '../paths/af-xdp/device.ts';
import { NATIVE_ATTACH } from '../paths/af-xdp/program.ts';
import type { PathDevice } from '../paths/device.ts';
import { HostDevice, type HostHoldings } from '../paths/host/device.ts';
import { TapDevice, type TapHoldings } from '../paths/tap/device.ts';
import { type Report, Upkeep } from '../paths/upkeep.ts';
import type { KernelHoldings, KernelOptions } from './kernel-options.ts';
import { KINDS, type Kind, type Machine } from './kinds.ts';
import { LinkChanges } from './link-changes.ts';
import type { LinkTable } from './link-table.ts';
import type { Endpoint, LinkChange, PortNetwork } from './network.ts';
import { PortMacFilter } from './port-mac-filter.ts';
import { PortRules } from './port-rules.ts';

export class KernelNetwork implements PortNetwork {
  readonly rules: PortRules;
  readonly macFilter: PortMacFilter;
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #table: LinkTable;
  readonly #sysfs: Sysfs;
  readonly #kind: Kind;
  readonly #protect: boolean;
  readonly #options: KernelOptions;
  /** Devices that the port makes itself. */
  readonly #own = new Map<PathId, { readonly ifindex: number }>();
  readonly #upkeep = new Map<PathId, Upkeep>();
  #netvsc: Link;
  /** The NetVSC's, from the last thorough check. */
  #xdpProgram = 0;
  /** The NetVSC's first and last MAC address: a VF may still have one of them, or return with it. */
  #addresses: readonly [first: string, last: string];
  #vf: { readonly device: AfXdpDevice; readonly ifindex: number } | undefined;
  readonly #changes: LinkChanges;
  readonly #reported = new Set<string>();
  /** A card that refuses XDP, and its state then. */
  #excluded: Link | undefined;

  constructor(
    shim: Shim,
    memory: Memory,
    port: number,
    table: LinkTable,
    sysfs: Sysfs,
    {
      netvsc,
      kind,
      protect,
      rules,
      macFilter,
      addresses,
    }: Omit<KernelHoldings, 'addresses'> & Partial<Pick<KernelHoldings, 'addresses'>>,
    options: KernelOptions,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#port = port;
    this.#table = table;
    this.#sysfs = sysfs;
    this.#kind = KINDS[kind];
    this.#protect = protect;
    this.#netvsc = netvsc;
    this.#options = options;
    this.#addresses = addresses ?? [netvsc.address, netvsc.address];
    this.rules = new PortRules(shim, rules);
    this.macFilter = new PortMacFilter(shim, (asked) => this.#macs(asked), macFilter);
    this.#changes = new LinkChanges(memory.layout.geometry.frameSize, () => this.#vf?.device.usedFrame);
    this.#changes.opened(Path.SYNTHETIC, netvsc);
  }

  get mac(): string {
    return this.#netvsc.address;
  }

  /** Of the devices that the port has now. */
  #macs(asked: boolean): string[] {
    const devices = this.#vf === undefined ? [this.#netvsc] : [this.#netvsc, this.#vf];
    const source = asked ? this.#table.netlink : this.#table;
    return devices.flatMap(({ ifindex }) => source.link(ifindex)?.address ?? []);
  }

  get device(): string {
    return this.#netvsc.name;
  }

  /** Whether only its name identifies the device. */
  get #isNamed(): boolean {
    return this.#kind === KINDS.card || this.#kind === KINDS['stand-in'];
  }

  /** ifindexes of this port's own devices. */
  get taken(): number[] {
    return [this.#netvsc.ifindex, ...[...this.#own.values()].map(({ ifindex }) => ifindex)];
  }

  endpoint(path: PathId): Endpoint | undefined {
    const netvsc = this.#find();
    if (path === Path.HOST && this.#options.host === 'off') return undefined;
    if (path !== Path.VF) return netvsc && endpointOf(netvsc);
    if (!this.#options.vf) return undefined;
    const history = {
      ours: new Set(this.taken),
      addresses: this.#addresses,
      incumbent: this.#vf?.ifindex,
    };
    const vf = netvsc && this.#kind.vf(netvsc, this.#machine, history);
    return vf === undefined || this.#isExcluded(vf) ? undefined : endpointOf(vf);
  }

  get #machine(): Machine {
    return { links: this.#table.links, sysfs: this.#sysfs };
  }

  /** Excludes a card without native XDP: each further try would set and reset its features. */
  exclude(path: PathId, { key }: Pick<Endpoint, 'key'>, error: TwinpathError): boolean {
    if (path !== Path.VF || error.syscall !== NATIVE_ATTACH) return false;
    this.#excluded = this.#table.link(key);
    this.#report(error);
    return true;
  }

  /** Until the card has been down, or has another MTU, the most frequent reason why native XDP fails. */
  #isExcluded({ ifindex, mtu, flags }: Link): boolean {
    const { ifindex: refused, mtu: then } = this.#excluded ?? {};
    if (refused === ifindex && then === mtu && (flags & IFF.UP) !== 0) return true;
    if (refused === ifindex) this.#excluded = undefined;
    return false;
  }

  query(path: PathId): Endpoint | undefined {
    const key = this.endpoint(path)?.key;
    const link = key === undefined ? undefined : this.#table.netlink.link(key);
    return link && endpointOf(link);
  }

  modes(path: PathId): LinkModes | undefined {
    const key = this.endpoint(path)?.key;
    const { ethtool } = this.#table;
    return key !== undefined && ethtool.has('LINKMODES_GET') ? ethtool.linkModes(key) : undefined;
  }

  information(path: PathId): DeviceInformation | undefined {
    const key = this.endpoint(path)?.key;
    const link = key === undefined ? undefined : this.#table.netlink.link(key);
    if (link === undefined) return undefined;
    return this.#withNetdev((netdev) => deviceInformation({ ethtool: this.#table.ethtool, netdev }, link));
  }

  #withNetdev<T>(use: (netdev: NetdevNetlink) => T): T {
    const netdev = NetdevNetlink.open(this.#shim);
    try {
      return use(netdev);
    } finally {
      netdev.close();
    }
  }

  counters(path: PathId): DeviceCounters | undefined {
    const key = this.endpoint(path)?.key;
    return key === undefined ? undefined : deviceCounters(this.#shim, this.#table.netlink, key);
  }

  get holdings(): KernelHoldings {
    const [netvsc, kind, protect] = [this.#netvsc, this.#kind.name, this.#protect];
    const [rules, macFilter] = [this.rules.held, this.macFilter.held];
    return { netvsc, kind, protect, addresses: this.#addresses, rules, macFilter };
  }

  make(path: PathId, { key }: Endpoint): PathDevice {
    if (path === Path.VF) return this.#openVf(this.#table.netlink.link(key) ?? this.#table.link(key)!);
    return path === Path.HOST ? this.#host(this.#netvsc) : this.#tap(this.#netvsc);
  }

  adopt(path: PathId, _: Pick<Endpoint, 'key'>, holdings: unknown): PathDevice {
    const { link } = holdings as { link: Link };
    if (path === Path.VF) return this.#openVf(link).adopt(holdings as AfXdpHoldings);
    if (path === Path.HOST) return this.#host(link).adopt(holdings as HostHoldings);
    return this.#tap(link).adopt(holdings as TapHoldings);
  }

  #openVf(link: Link): AfXdpDevice {
    const { rss, rssKey, host, store, native } = this.#options;
    const device = new AfXdpDevice(this.#shim, this.#memory, this.#port, Path.VF, link, {
      rss,
      rssKey,
      store,
      native,
      segments: host === 'inline',
      protect: this.#protect,
      macFilter: this.macFilter.of('vf'),
      rules: this.rules.current,
      ethtool: this.#table.ethtool,
      netvsc: this.#netvsc.ifindex,
      netlink: this.#table.netlink,
      configuration:
        this.#kind === KINDS.card
          ? undefined
          : { netlink: this.#table.netlink, store, report: (error) => this.#report(error) },
      generic: this.#kind !== KINDS.card || host === 'off',
      metadata: () => this.#memory.control.metadata,
      abilities: (ifindex) => this.#withNetdev((netdev) => netdev.xdpAbilities(ifindex)),
      report: (error) => this.#report(error),
    });
    this.#vf = { device, ifindex: link.ifindex };
    this.#changes.opened(Path.VF, link);
    return device;
  }

  #host(link: Link): HostDevice {
    const { redirect, order, host } = this.#options;
    const options = { redirect, order, inline: host === 'inline', protect: this.#protect };
    return this.#ownDevice(
      Path.HOST,
      new HostDevice(this.#shim, this.#table.netlink, this.#memory, this.#port, link, options),
    );
  }

  #tap(link: Link): TapDevice {
    const common = [this.#shim, this.#table.netlink, this.#memory, this.#port, Path.SYNTHETIC] as const;
    const { tap, store } = this.#options;
    const options = {
      ...tap,
      store,
      protect: this.#protect,
      macFilter: this.macFilter.of('synthetic'),
      metadata: () => this.#memory.control.metadata,
      rules: this.rules.current,
      ethtool: this.#table.ethtool,
      standby: this.#kind.standby(link, this.#machine)?.ifindex ?? 0,
      shared: this.#kind === KINDS.card,
      report: (error: TwinpathError) => this.#report(error),
    };
    return this.#ownDevice(Path.SYNTHETIC, new TapDevice(...common, link, options));
  }

  #ownDevice<T extends TapDevice | HostDevice>(path: PathId, device: T): T {
    this.#own.set(path, device);
    return device;
  }

  observe(): LinkChange[] {
    const netvsc = this.#find();
    const found = netvsc === undefined ? [] : this.#changes.since(Path.SYNTHETIC, netvsc);
    if (netvsc !== undefined) setMac(this.#memory, this.#port, netvsc.address);
    const vf = this.#vf && this.#table.link(this.#vf.ifindex);
    if (vf !== undefined) {
      this.#vf!.device.noticed(vf);
      found.push(...this.#changes.since(Path.VF, vf));
    }
    return found;
  }

  #report(error: TwinpathError): void {
    if (this.#reported.has(error.message)) return;
    this.#reported.add(error.message);
    this.#options.report(error);
  }

  maintain(path: PathId, device: PathDevice, thorough: boolean, report: Report): boolean {
    const netvsc = this.#find();
    if (netvsc === undefined) return true; // that is reported elsewhere and cannot be repaired here
    const upkeep = this.#upkeep.get(path) ?? new Upkeep(report);
    this.#upkeep.set(path, upkeep);
    try {
      if (thorough && path === Path.SYNTHETIC) this.#readXdpProgram(netvsc);
    } catch (error) {
      upkeep.failed(error);
      return true; // the next check may succeed
    }
    try {
      const now = { ...netvsc, xdpProgram: this.#xdpProgram };
      device.tend?.({ links: this.#table, netvsc: now, upkeep, thorough });
      return true;
    } catch (error) {
      upkeep.failed(error);
      return false;
    }
  }

  /** The kernel sends no message when a bpf_link attaches or detaches a program (bpf_xdp_link_attach). */
  #readXdpProgram({ ifindex }: Link): void {
    this.#xdpProgram = this.#table.netlink.link(ifindex)?.xdpProgram ?? 0;
  }

  #find(): Link | undefined {
    const known = this.#table.link(this.#netvsc.ifindex);
    if (known !== undefined) {
      const { address } = this.#netvsc;
      if (address !== known.address) this.#addresses = [this.#addresses[0], address];
      this.#netvsc = known;
      return known;
    }
    const again = this.#table.links.find(
      (link) =>
        (link.address === this.mac || this.#addresses.includes(link.address)) &&
        (this.#kind.is(link, this.#machine) || (this.#isNamed && link.name === this.#netvsc.name)),
    );
    if (again !== undefined) this.#netvsc = again;
    return again;
  }
}

function endpointOf(link: Link): Endpoint {
  return { key: link.ifindex, name: link.name, up: (link.flags & IFF.UP) !== 0, carrier: link.carrier };
}
