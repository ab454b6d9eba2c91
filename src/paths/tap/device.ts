/**
 * A multi-queue tap redirected to and from the NetVSC: what the NetVSC receives comes up the tap, what is written to
 * the tap leaves by the NetVSC. Coordinator only.
 *
 * The tap is not persistent and its redirects are bpf_links: the kernel removes everything when the process
 * dies. On kernels before 6.6 the redirects are tc filters, which outlive a killed process: they let the kernel
 * have its packets, and the next start removes them.
 */
import { errnoName } from '../../errors.ts';
import type { HeldSettings } from '../../kernel/device-settings.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { Registered } from '../../memory/abi.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { Driver, type PathId, Reader } from '../../memory/layout.ts';
import { uringPlace } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { closeAfter, everyStep } from '../every-step.ts';
import { type RedirectKind, type RedirectOrder, tendAttachment } from '../hook.ts';
import {
  fillsFrame,
  limitSentBytes,
  maxSentBytes,
  maxUntaggedBytes,
  refuseLongPackets,
} from '../packet-size.ts';
import { openSegmentSocket, segmentsNote } from '../segments.ts';
import { changed, type Surroundings } from '../upkeep.ts';
import { Merging, type MergingOptions } from './merging.ts';
import { awaitVanishing, type OpenTap, openTap, steer, takeOnlyCaptured } from './open.ts';
import { type RedirectHoldings, TcRedirect } from './redirect.ts';
import { OwnTap } from './tend.ts';

export interface TapOptions extends MergingOptions {
  /** Plain reads and writes even where io_uring works. */
  readonly plain?: boolean;
  readonly redirect?: RedirectKind;
  /** A host path in inline mode goes with it: what is sent here must be told from what the kernel sends. */
  readonly inline?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
  readonly protect?: boolean;
  readonly order?: RedirectOrder;
  /** ifindex of the device's standby leg, if it is a net_failover device: see redirect.ts. */
  readonly standby?: number;
  /** The port's VF path is on the same device, and answers for the XDP program there. */
  readonly shared?: boolean;
}

/** See `PathDevice.holdings`. */
export interface TapHoldings {
  readonly link: Link;
  readonly description: PathDescription;
  readonly fds: readonly number[];
  readonly segmentFds: readonly number[];
  readonly ifindex: number;
  /** The tap's. */
  readonly name: string;
  readonly redirect: RedirectHoldings | undefined;
  /** The NetVSC's. */
  readonly settings: HeldSettings;
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
  #fds: readonly number[] = [];
  #segmentFds: readonly number[] = [];
  #ifindex = 0;
  #tap: OwnTap | undefined;
  #redirect: TcRedirect | undefined;
  #disciplines = 0;

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
    this.#merging = new Merging(link, options);
    this.description = { driver: 'tap', device: link.name, mode: '', redirect: '' };
    if (options.protect) this.description.protects = 'platform';
  }

  get holdings(): TapHoldings {
    return {
      ...{ link: this.#link, description: this.description, redirect: this.#redirect?.holdings },
      ...{ fds: this.#fds, ifindex: this.#ifindex, name: this.#tap?.name ?? '' },
      ...{ segmentFds: this.#segmentFds, settings: this.#merging.held },
    };
  }

  /** Goes on with what another coordinator has opened. */
  adopt({ description, fds, segmentFds, ifindex, name, redirect, settings }: TapHoldings): this {
    Object.assign(this.description, description);
    this.#merging.adopt(settings);
    this.#segmentFds = segmentFds;
    this.#note({ fds, ifindex, name });
    if (redirect !== undefined) this.#redirect = this.#newRedirect(redirect);
    return this;
  }

  /** The tap's own ifindex: the coordinator must not take it for a VF. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    const { layout } = this.#memory;
    refuseLongPackets(this.#link, layout.geometry.frameSize);
    this.#limitLength(this.#link.mtu);
    let readsLong = false;
    try {
      const { queues } = layout.geometry;
      const { mtu } = this.#link;
      openTap(this.#shim, this.#netlink, { template: 'twinpath%d', queues, mtu }, (tap) => this.#note(tap));
      // Queue q of the NetVSC comes up queue q of the tap: see tapSteering.
      const virtual = this.#link.kind === 'veth' || this.#link.kind === 'bridge';
      steer(this.#shim, this.#fds[0]!, virtual ? 'raw' : 'recorded');
      takeOnlyCaptured(this.#shim, this.#fds[0]!);
      // What is written to a tap is as long as its writer likes. A packet that may be tagged as long may not fit with that.
      const merges = this.#merging.stop();
      readsLong = merges || this.#link.kind === 'tun' || fillsFrame(mtu, layout.geometry.frameSize);
      this.changed();
      if (this.#options.inline) {
        for (const _ of this.#fds) {
          const fd = openSegmentSocket(this.#shim, this.#link.ifindex, 'marked');
          this.#segmentFds = [...this.#segmentFds, fd];
          this.changed();
        }
      }
    } catch (error) {
      closeAfter(this, error);
    }
    this.#fds.forEach((fd, queue) => {
      this.#slot(queue).open(Driver.TAP, {
        fd,
        reader: Reader.ASKED,
        useUring: this.#options.plain ? 0 : 1,
        readsLong: readsLong ? 1 : 0,
        segmentsFd: this.#segmentFds[queue] ?? 0,
      });
    });
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
    if (this.#tap === undefined) return; // closed
    this.#limitLength(netvsc.mtu);
    this.#tap.tend(around);
    const { standby = 0, shared } = this.#options;
    const watched = [netvsc.ifindex, this.#ifindex, standby];
    const disciplines = watched.reduce((sum, ifindex) => sum + links.disciplines(ifindex), 0);
    if (this.#redirect === undefined || !(thorough || disciplines !== this.#disciplines)) return;
    this.#disciplines = disciplines;
    const [inward, outward, aside] = this.#redirect.attachments;
    tendAttachment(inward, netvsc.name, upkeep, this.changed);
    tendAttachment(outward, this.#tap.name, upkeep, this.changed);
    tendAttachment(aside, links.link(standby)?.name ?? '', upkeep, this.changed);
    if (shared) return;
    const { xdpProgram } = netvsc;
    const detail = `XDP program ${xdpProgram} is attached to it: what that takes does not come to the port`;
    upkeep.tell('xdp', xdpProgram === 0 ? undefined : changed(netvsc.name, detail));
  }

  close(): void {
    const ifindex = this.#ifindex;
    everyStep([
      () => this.#redirect?.release(),
      () => {
        this.#redirect = undefined;
      },
      () => this.#merging.restore(),
      ...this.#fds.map((fd, queue) => () => this.#closeQueue(fd, queue)),
      ...this.#segmentFds.map((fd, queue) => () => this.#closeSegmentSocket(fd, queue)),
      () => {
        this.#tap = undefined;
        this.#ifindex = 0; // that its link goes is our own doing
        this.changed();
      },
      () => ifindex > 0 && awaitVanishing(this.#netlink, ifindex),
    ]);
  }

  #note({ fds, ifindex, name }: OpenTap): void {
    this.#fds = fds;
    this.#ifindex = ifindex;
    if (ifindex > 0) this.#tap = new OwnTap(this.#netlink, { ifindex, name });
    this.changed();
  }

  // A descriptor's number is free for others once it is closed: it is struck out at once.

  #closeQueue(fd: number, queue: number): void {
    if (fd < 0) return;
    const slot = this.#slot(queue);
    const ring = slot.uringFd; // of a worker that was ended before it let go
    if (ring > 0) this.#shim.close(ring);
    slot.close();
    this.#shim.close(fd);
    this.#fds = this.#fds.with(queue, -1);
    this.changed();
  }

  #closeSegmentSocket(fd: number, queue: number): void {
    if (fd > 0) this.#shim.close(fd);
    this.#segmentFds = this.#segmentFds.with(queue, 0);
    this.changed();
  }

  #slot(queue: number): PathSlot {
    return this.#memory.slot({ port: this.#port, queue, path: this.#path });
  }

  #newRedirect(holdings?: RedirectHoldings): TcRedirect {
    const { redirect = 'tcx', inline = false, protect = false, order, standby = 0 } = this.#options;
    const request = {
      ...{ netvsc: this.#link.ifindex, tap: this.#ifindex, device: this.#link.name },
      ...{ kind: redirect, marks: inline, protect, first: order !== 'last', standby },
      maxPacketBytes: maxUntaggedBytes(this.#memory.layout.geometry.frameSize),
    };
    return new TcRedirect(this.#shim, this.#netlink, request, () => this.changed(), holdings);
  }

  /** The tap counts for all its queues together: they are reported on queue 0. */
  dropped(queue: number): Record<KernelCounter, number> {
    const statistics =
      queue === 0 && this.#ifindex > 0 ? this.#netlink.link(this.#ifindex)?.statistics : undefined;
    return {
      ...NOTHING_DROPPED,
      rxDropped: statistics?.txDropped ?? 0,
      txInvalid: statistics?.rxDropped ?? 0,
    };
  }

  /** A tap takes what is longer than its device sends, and says that it was sent. */
  #limitLength(mtu: number): void {
    const { frameSize } = this.#memory.layout.geometry;
    limitSentBytes(this.#memory, this.#port, this.#path, maxSentBytes(mtu, frameSize));
  }

  #mode(): string {
    const { uringFd, uringErrno } = this.#slot(0);
    if (uringFd > 0) return `io_uring${this.#unregistered()}`;
    return uringErrno === 0 ? 'read/write' : `read/write (io_uring refused: ${errnoName(uringErrno)})`;
  }

  /** What the kernel did not take for the ring of each queue: it looks that up for every packet then. */
  #unregistered(): string {
    const taken = this.#fds.reduce((all, _, queue) => {
      const address = { port: this.#port, queue, path: this.#path };
      return all & uringPlace(this.#memory, address).registered;
    }, Registered.file | Registered.frames);
    const refused = (['file', 'frames'] as const).filter((what) => (taken & Registered[what]) === 0);
    return refused.length > 0 ? ` (${refused.join(' and ')} not registered)` : '';
  }
}
