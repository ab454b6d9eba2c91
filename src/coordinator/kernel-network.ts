/**
 * A port on real devices: the NetVSC through a tap, its VF through AF_XDP; of one card alone, it through both. Coordinator
 * thread only.
 *
 * The NetVSC is known by its ifindex, and by its MAC if it ever goes and another one comes. The VF is found anew at
 * every look, so it may return under any name, ifindex or PCI address. What else was read when the port was opened
 * (names, MAC addresses, MTUs) is followed: `observe` compares.
 */
import { TwinpathError } from '../errors.ts';
import { IFF, type Link } from '../kernel/rtnetlink.ts';
import { isRunning } from '../kernel/running.ts';
import type { SettingsStore } from '../kernel/settings-store.ts';
import type { Shim } from '../kernel/shim.ts';
import type { Sysfs } from '../kernel/sysfs.ts';
import { Path, type PathId } from '../memory/layout.ts';
import { setMac } from '../memory/macs.ts';
import type { Memory } from '../memory/shared.ts';
import type { HostMode, RssMode } from '../options.ts';
import { AfXdpDevice, type AfXdpHoldings } from '../paths/af-xdp/device.ts';
import { NATIVE_ATTACH } from '../paths/af-xdp/program.ts';
import type { PathDevice } from '../paths/device.ts';
import { HostDevice, type HostHoldings } from '../paths/host/device.ts';
import { maxMtu } from '../paths/packet-size.ts';
import { TapDevice, type TapHoldings, type TapOptions } from '../paths/tap/device.ts';
import type { MergingOptions } from '../paths/tap/merging.ts';
import type { RedirectKind, RedirectOrder } from '../paths/tc-attachments.ts';
import { type Report, Upkeep } from '../paths/upkeep.ts';
import { KINDS, type Kind, type KindName, type Machine } from './kinds.ts';
import type { LinkTable } from './link-table.ts';
import type { Endpoint, Observation, PortNetwork } from './network.ts';

export interface KernelOptions {
  readonly tap: Omit<TapOptions, keyof MergingOptions>;
  readonly redirect: RedirectKind;
  readonly order: RedirectOrder;
  /** Of the VF: no generic XDP. */
  readonly native: boolean;
  readonly host: HostMode;
  readonly rss: RssMode;
  readonly rssKey: Uint8Array;
  readonly store: SettingsStore;
  /** Hears what the port lives with, and a person should know: each once. */
  readonly report: (error: TwinpathError) => void;
}

export interface KernelHoldings {
  readonly netvsc: Link;
  readonly kind: KindName;
  readonly protect: boolean;
  readonly addresses: readonly [first: string, last: string];
}

export class KernelNetwork implements PortNetwork {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #table: LinkTable;
  readonly #sysfs: Sysfs;
  readonly #kind: Kind;
  readonly #protect: boolean;
  readonly #options: KernelOptions;
  /** Devices that Twinpath makes itself. */
  readonly #own = new Map<PathId, { readonly ifindex: number }>();
  readonly #upkeep = new Map<PathId, Upkeep>();
  #netvsc: Link;
  /** Of the NetVSC, as it was looked up last. */
  #xdpProgram = 0;
  /** Addresses that the NetVSC has had, the first and the last: a VF may still have one, or come back with it. */
  #addresses: readonly [first: string, last: string];
  #vf: { readonly device: AfXdpDevice; readonly ifindex: number } | undefined;
  /** The devices as `observe` last saw them. */
  readonly #seen = new Map<PathId, Link>();
  readonly #reported = new Set<string>();
  /** A card that refuses XDP, as it was then. */
  #forsaken: Link | undefined;

  constructor(
    shim: Shim,
    memory: Memory,
    port: number,
    table: LinkTable,
    sysfs: Sysfs,
    { netvsc, kind, protect }: Pick<KernelHoldings, 'netvsc' | 'kind' | 'protect'>,
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
    this.#addresses = [netvsc.address, netvsc.address];
    this.#seen.set(Path.SYNTHETIC, netvsc);
  }

  get mac(): string {
    return this.#netvsc.address;
  }

  get device(): string {
    return this.#netvsc.name;
  }

  /** Of a kind that only its name tells. */
  get #isNamed(): boolean {
    return this.#kind === KINDS.card || this.#kind === KINDS['stand-in'];
  }

  /** ifindexes that belong to this port and so to no other. */
  get taken(): number[] {
    return [this.#netvsc.ifindex, ...[...this.#own.values()].map(({ ifindex }) => ifindex)];
  }

  endpoint(path: PathId): Endpoint | undefined {
    const netvsc = this.#find();
    if (path === Path.HOST && this.#options.host === 'off') return undefined;
    if (path !== Path.VF) return netvsc && endpointOf(netvsc);
    const memories = {
      ...{ ours: new Set(this.taken), addresses: this.#addresses },
      ...(this.#vf ? { incumbent: this.#vf.ifindex } : {}),
    };
    const vf = netvsc && this.#kind.vf(netvsc, this.#machine, memories);
    return vf === undefined || this.#isForsaken(vf) ? undefined : endpointOf(vf);
  }

  get #machine(): Machine {
    return { links: this.#table.links, sysfs: this.#sysfs };
  }

  /** A card without native XDP: to try again would set and reset its features each time. */
  forsakes(path: PathId, { key }: Pick<Endpoint, 'key'>, error: TwinpathError): boolean {
    if (path !== Path.VF || error.syscall !== NATIVE_ATTACH) return false;
    this.#forsaken = this.#table.link(key);
    this.#report(error);
    return true;
  }

  /** Until it has been down, or has another MTU, which is what native XDP fails for most often. */
  #isForsaken({ ifindex, mtu, flags }: Link): boolean {
    const { ifindex: refused, mtu: then } = this.#forsaken ?? {};
    if (refused === ifindex && then === mtu && (flags & IFF.UP) !== 0) return true;
    if (refused === ifindex) this.#forsaken = undefined;
    return false;
  }

  look(path: PathId): Endpoint | undefined {
    const key = this.endpoint(path)?.key;
    const link = key === undefined ? undefined : this.#table.netlink.link(key);
    return link && endpointOf(link);
  }

  runs(path: PathId): boolean | undefined {
    const key = this.endpoint(path)?.key;
    return key === undefined ? undefined : isRunning(this.#shim, key);
  }

  get holdings(): KernelHoldings {
    const [netvsc, kind, protect] = [this.#netvsc, this.#kind.name, this.#protect];
    return { netvsc, kind, protect, addresses: this.#addresses };
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
      ...{ rss, rssKey, store, native, segments: host === 'inline', protect: this.#protect },
      ethtool: this.#table.ethtool,
      netvsc: this.#netvsc.ifindex,
      netlink: this.#table.netlink,
      generic: this.#kind !== KINDS.card || host === 'off',
      report: (error) => this.#report(error),
    });
    this.#vf = { device, ifindex: link.ifindex };
    this.#seen.set(Path.VF, link);
    return device;
  }

  #host(link: Link): HostDevice {
    const { redirect, order, host } = this.#options;
    const options = { redirect, order, inline: host === 'inline', protect: this.#protect };
    return this.#made(
      Path.HOST,
      new HostDevice(this.#shim, this.#table.netlink, this.#memory, this.#port, link, options),
    );
  }

  #tap(link: Link): TapDevice {
    const place = [this.#shim, this.#table.netlink, this.#memory, this.#port, Path.SYNTHETIC] as const;
    const { tap, store } = this.#options;
    const options = {
      ...{ ...tap, store, protect: this.#protect, ethtool: this.#table.ethtool },
      standby: this.#kind.standby(link, this.#machine)?.ifindex ?? 0,
      shared: this.#kind === KINDS.card,
      report: (error: TwinpathError) => this.#report(error),
    };
    return this.#made(Path.SYNTHETIC, new TapDevice(...place, link, options));
  }

  #made<T extends TapDevice | HostDevice>(path: PathId, device: T): T {
    this.#own.set(path, device);
    return device;
  }

  observe(): Observation[] {
    const netvsc = this.#find();
    const found = netvsc === undefined ? [] : this.#compare(Path.SYNTHETIC, netvsc);
    if (netvsc !== undefined) setMac(this.#memory, this.#port, netvsc.address);
    const vf = this.#vf && this.#table.link(this.#vf.ifindex);
    if (vf !== undefined) {
      this.#vf!.device.noticed(vf);
      found.push(...this.#compare(Path.VF, vf));
    }
    return found;
  }

  /** What is new about a device of ours; nothing about one that has taken another's place. */
  #compare(path: PathId, link: Link): Observation[] {
    const before = this.#seen.get(path);
    this.#seen.set(path, link);
    if (before?.ifindex !== link.ifindex) return [];
    const { name: device } = link;
    const found: Observation[] = [];
    const note = (what: string, was: string | number, is: string | number, error?: TwinpathError): void => {
      if (was !== is) found.push({ path, device, detail: `its ${what} was ${was} and is ${is}`, error });
    };
    note('name', before.name, link.name);
    note('MAC address', before.address, link.address);
    note('MTU', before.mtu, link.mtu, this.#tooLong(path, link));
    return found;
  }

  /** Set while the port is open: the kernel asks nobody, and what does not fit is cut off or dropped. */
  #tooLong(path: PathId, { name, mtu }: Link): TwinpathError | undefined {
    const { frameSize } = this.#memory.layout.geometry;
    const most = maxMtu(frameSize);
    if (mtu <= most) return undefined;
    const longer =
      path === Path.VF
        ? 'longer packets are dropped (paths.vf.kernel.rxDropped)'
        : 'longer packets of TCP are cut, others are dropped (paths.synthetic.rxTooLong)';
    return new TwinpathError('ERR_DEVICE_SETTINGS', {
      device: name,
      detail: `its MTU is ${mtu} now and a frame of ${frameSize} bytes serves one up to ${most}: ${longer}`,
      hint:
        frameSize < 4096
          ? 'Lower the MTU, or open the port anew with frameSize: 4096 (--frame-size 4096).'
          : 'Lower the MTU.',
    });
  }

  #report(error: TwinpathError): void {
    if (this.#reported.has(error.message)) return;
    this.#reported.add(error.message);
    this.#options.report(error);
  }

  tend(path: PathId, device: PathDevice, thorough: boolean, report: Report): boolean {
    const netvsc = this.#find();
    if (netvsc === undefined) return true; // which is told, and more than can be mended
    const upkeep = this.#upkeep.get(path) ?? new Upkeep(report);
    this.#upkeep.set(path, upkeep);
    try {
      if (thorough && path === Path.SYNTHETIC) this.#lookForXdp(netvsc);
    } catch (error) {
      upkeep.failed(error);
      return true; // the next look may say
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

  /** No message tells of a program that comes or goes with a bpf_link (bpf_xdp_link_attach). */
  #lookForXdp({ ifindex }: Link): void {
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
