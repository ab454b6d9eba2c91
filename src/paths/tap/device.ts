/**
 * A multi-queue tap redirected to and from the NetVSC: the tap brings up what the NetVSC receives, and what is written to
 * the tap leaves through the NetVSC. Coordinator only.
 *
 * The tap is not persistent and its redirects are bpf_links: the kernel removes everything when the process dies. On
 * kernels before 6.6 the redirects are tc filters, which outlive a killed process: they pass packets to the kernel, and
 * the next start removes them.
 */
import type { PortConfiguration } from '../../configuration.ts';
import { errnoName, type TwinpathError } from '../../errors.ts';
import { Bpf } from '../../kernel/bpf.ts';
import type { HeldSettings } from '../../kernel/device-settings.ts';
import type { KernelRules } from '../../kernel/kernel-rules.ts';
import type { MacFilter } from '../../kernel/mac-filter.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { Registered } from '../../memory/abi.ts';
import { hasChains } from '../../memory/chains.ts';
import type { KernelCounter } from '../../memory/counters.ts';
import { Driver, type PathId, Reader } from '../../memory/layout.ts';
import { metadataNames, RECEIVED } from '../../memory/metadata.ts';
import { uringPlace } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import { fillsFrame, maxUntaggedBytes } from '../../net/packet-size.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { closeAfter, everyStep } from '../every-step.ts';
import { LinkConfiguration, type LinkConfigurationHoldings } from '../link-configuration.ts';
import { limitToMtu, refuseLongPackets } from '../packet-limit.ts';
import { openSegmentSocket, segmentsNote } from '../segments.ts';
import { tendAttachment } from '../tc-attachment.ts';
import type { RedirectKind, RedirectOrder } from '../tc-attachments.ts';
import { changed, DisciplineWatch, type Surroundings } from '../upkeep.ts';
import { Merging, type MergingOptions } from './merging.ts';
import { openTap, steer, takeOnlyCaptured } from './open.ts';
import { OwnTap } from './own-tap.ts';
import { type RedirectHoldings, TcRedirect } from './redirect.ts';

export interface TapOptions extends MergingOptions {
  /** Plain reads and writes even where io_uring works. */
  readonly plain?: boolean;
  readonly redirect?: RedirectKind;
  /** A host path in inline mode is open too: packets sent here must differ from those that the kernel sends. */
  readonly inline?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  readonly order?: RedirectOrder;
  /** ifindex of the device's standby leg, if it is a net_failover device: see redirect.ts. */
  readonly standby?: number;
  /** The port's VF path is on the same device, and watches the XDP program there. */
  readonly shared?: boolean;
  readonly macFilter?: MacFilter | undefined;
  /** The metadata that the handler asks for: `MetadataBit`s. Asked when the path opens. Default none. */
  readonly metadata?: () => number;
  /** Which packets of the NetVSC are redirected: at first, see {@link TapDevice.setRules}. */
  readonly rules?: KernelRules | undefined;
}

/** See `PathDevice.holdings`. */
export interface TapHoldings {
  readonly link: Link;
  readonly description: PathDescription;
  readonly fds: readonly number[];
  readonly segmentFds: readonly number[];
  readonly prefixed: boolean;
  readonly ifindex: number;
  /** The tap's. */
  readonly name: string;
  readonly redirect: RedirectHoldings | undefined;
  /** The NetVSC's. */
  readonly settings: HeldSettings;
  readonly configuration: LinkConfigurationHoldings;
}

export class TapDevice implements PathDevice {
  readonly description: PathDescription;
  changed = (): void => {};
  readonly #shim: Shim;
  readonly #netlink: RtNetlink;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;
  readonly #link: Link;
  readonly #options: TapOptions;
  readonly #merging: Merging;
  readonly #tap: OwnTap;
  #segmentFds: readonly number[] = [];
  #redirect: TcRedirect | undefined;
  #rules: KernelRules | undefined;
  /** Whether packets come with metadata before them. */
  #prefixed = false;
  readonly #disciplines = new DisciplineWatch();
  readonly #configuration: LinkConfiguration;

  constructor(
    shim: Shim,
    netlink: RtNetlink,
    memory: Memory,
    port: number,
    path: PathId,
    link: Link,
    options: TapOptions,
  ) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.#link = link;
    this.#options = options;
    this.#rules = options.rules;
    this.#merging = new Merging(link, options);
    const { store, report } = options;
    const onChange = (): void => this.changed();
    this.#configuration = new LinkConfiguration(shim, link, 'netvsc-link', {
      ...{ netlink, store, report },
      changed: onChange,
    });
    const slot = (queue: number) => memory.slot({ port, queue, path });
    this.#tap = new OwnTap(shim, netlink, slot, () => this.changed());
    this.description = { driver: 'tap', device: link.name, mode: '', redirect: '' };
    if (options.protect) this.description.protects = 'platform';
  }

  get holdings(): TapHoldings {
    const { fds, ifindex, name } = this.#tap.holdings;
    return {
      link: this.#link,
      description: this.description,
      fds,
      segmentFds: this.#segmentFds,
      prefixed: this.#prefixed,
      ifindex,
      name,
      redirect: this.#redirect?.holdings,
      settings: this.#merging.held,
      configuration: this.#configuration.held,
    };
  }

  /** Continues what another coordinator has opened. */
  adopt(held: TapHoldings): this {
    const { description, fds, segmentFds, prefixed, ifindex, name, redirect, settings, configuration } = held;
    Object.assign(this.description, description);
    this.#configuration.adopt(configuration);
    this.#merging.adopt(settings);
    this.#segmentFds = segmentFds;
    this.#prefixed = prefixed;
    this.#tap.hold({ fds, ifindex, name });
    if (redirect !== undefined) this.#redirect = this.#newRedirect(redirect);
    return this;
  }

  /** The tap's own ifindex: the coordinator must not take the tap for a VF. 0 while closed. */
  get ifindex(): number {
    return this.#tap.ifindex;
  }

  open(): void {
    const { queues, frameSize } = this.#memory.layout.geometry;
    const { mtu, kind } = this.#link;
    refuseLongPackets(this.#link, frameSize);
    limitToMtu(this.#memory, this.#port, this.#path, mtu);
    let readsLong = false;
    try {
      this.#configuration.putBack();
      const request = { template: 'twinpath%d', queues, mtu };
      openTap(this.#shim, this.#netlink, request, (tap) => this.#tap.hold(tap));
      const fd = this.#tap.fds[0]!;
      // The tap brings up queue q of the NetVSC on its queue q: see tapSteering.
      steer(this.#shim, fd, kind === 'veth' || kind === 'bridge' ? 'raw' : 'recorded');
      takeOnlyCaptured(this.#shim, fd);
      const merges = this.#merging.stop();
      // A tap's writer may write packets of any length. Near the frame size, a packet may not fit with the long tag.
      readsLong = merges || kind === 'tun' || fillsFrame(mtu, frameSize);
      this.#prefixed = this.#decideOnMetadata();
      // Of a merged packet that fits such a frame, metadata may not.
      if (this.#prefixed && hasChains(frameSize)) readsLong = true;
      this.changed();
      if (this.#options.inline) this.#openSegmentSockets();
    } catch (error) {
      closeAfter(this, error);
    }
    this.#tap.fds.forEach((fd, queue) => {
      this.#memory.slot({ port: this.#port, queue, path: this.#path }).open(Driver.TAP, {
        fd,
        reader: Reader.ASKED,
        useUring: this.#options.plain ? 0 : 1,
        readsLong: readsLong ? 1 : 0,
        segmentsFd: this.#segmentFds[queue] ?? 0,
        metadata: this.#prefixed ? 1 : 0,
      });
    });
  }

  /** Whether packets get metadata; describes what is lacking. */
  #decideOnMetadata(): boolean {
    const { redirect = 'tcx', metadata } = this.#options;
    const wanted = (metadata?.() ?? 0) & RECEIVED;
    if (wanted === 0) return false;
    if (redirect === 'tcx' && new Bpf(this.#shim).hasTcx(this.#link.ifindex)) return true;
    const why = 'only a tcx link can write it before a packet (Linux 6.6, and redirect: tcx)';
    this.description.lacks = Object.fromEntries(metadataNames(wanted).map((name) => [name, why]));
    return false;
  }

  #openSegmentSockets(): void {
    for (const _ of this.#tap.fds) {
      const fd = openSegmentSocket(this.#shim, this.#link.ifindex, 'marked');
      this.#segmentFds = [...this.#segmentFds, fd];
      this.changed();
    }
  }

  configure(wanted: PortConfiguration): TwinpathError[] {
    const refusals = this.#configuration.apply(wanted);
    limitToMtu(this.#memory, this.#port, this.#path, this.#configuration.mtu ?? this.#link.mtu);
    this.description.refused = refusals.map(({ message }) => message);
    return refusals;
  }

  /** Only what the NetVSC receives is tried, and not what the machine's own stack sends. */
  setRules(rules: KernelRules | undefined): void {
    this.#redirect?.setRules(rules);
    this.#rules = rules;
  }

  arm(): void {
    this.#redirect = this.#newRedirect();
    this.#redirect.attach();
    this.description.redirect = this.#redirect.name;
    this.description.mode = this.#mode() + segmentsNote(this.#segmentFds[0] ?? 0);
    this.changed();
  }

  disarm(): void {
    this.#redirect?.releaseNetvsc();
  }

  settle(): void {
    this.#merging.settle();
    this.changed();
  }

  tend(around: Surroundings): void {
    const { links, netvsc, upkeep, thorough } = around;
    const { ifindex } = this.#tap;
    if (ifindex === 0) return; // closed
    limitToMtu(this.#memory, this.#port, this.#path, netvsc.mtu);
    this.#tap.tend(around);
    if (this.#redirect === undefined) return;
    const { standby = 0, shared } = this.#options;
    const altered = this.#disciplines.hasChanged(around, netvsc.ifindex, ifindex, standby);
    if (!thorough && !altered) return;
    const [inward, outward, fromStandby] = this.#redirect.attachments;
    tendAttachment(inward, netvsc.name, upkeep, this.changed);
    tendAttachment(outward, this.#tap.name, upkeep, this.changed);
    tendAttachment(fromStandby, links.link(standby)?.name ?? '', upkeep, this.changed);
    if (shared) return;
    const { xdpProgram } = netvsc;
    const detail = `XDP program ${xdpProgram} is attached to it: the port does not get the packets that it takes`;
    upkeep.tell('xdp', xdpProgram === 0 ? undefined : changed(netvsc.name, detail));
  }

  close(): void {
    everyStep([
      () => this.#redirect?.release(),
      () => {
        this.#redirect = undefined;
      },
      () => this.#merging.restore(),
      ...this.#configuration.closings,
      ...this.#segmentFds.map((fd, queue) => () => this.#closeSegmentSocket(fd, queue)),
      ...this.#tap.closings,
    ]);
  }

  dropped(queue: number): Record<KernelCounter, number> {
    return this.#tap.dropped(queue);
  }

  #closeSegmentSocket(fd: number, queue: number): void {
    if (fd > 0) this.#shim.close(fd);
    this.#segmentFds = this.#segmentFds.with(queue, 0); // another object may get the same number now
    this.changed();
  }

  #newRedirect(holdings?: RedirectHoldings): TcRedirect {
    const { redirect = 'tcx', inline = false, protect = false, order, standby = 0 } = this.#options;
    const request = {
      netvsc: this.#link.ifindex,
      tap: this.#tap.ifindex,
      device: this.#link.name,
      kind: redirect,
      marks: inline,
      protect,
      first: order !== 'last',
      maxPacketBytes: maxUntaggedBytes(this.#memory.layout.geometry.frameSize),
      metadata: this.#prefixed,
      standby,
      macFilter: this.#options.macFilter,
      rules: this.#rules,
    };
    return new TcRedirect(this.#shim, this.#netlink, request, () => this.changed(), holdings);
  }

  /** How the workers read and write. */
  #mode(): string {
    const { uringFd, uringErrno } = this.#memory.slot({ port: this.#port, queue: 0, path: this.#path });
    if (uringFd > 0) return `io_uring${this.#unregistered()}`;
    return uringErrno === 0 ? 'read/write' : `read/write (io_uring refused: ${errnoName(uringErrno)})`;
  }

  /** Names what the kernel did not register with every queue's ring: it looks that up for each packet. */
  #unregistered(): string {
    const taken = this.#tap.fds.reduce((all, _, queue) => {
      const address = { port: this.#port, queue, path: this.#path };
      return all & uringPlace(this.#memory, address).registered;
    }, Registered.file | Registered.frames);
    const refused = (['file', 'frames'] as const).filter((what) => (taken & Registered[what]) === 0);
    return refused.length > 0 ? ` (${refused.join(' and ')} not registered)` : '';
  }
}
