/**
 * The path to the machine's own stack, a multi-queue tap redirected to and from the NetVSC on the kernel's side of it:
 * what is written to it the kernel receives as if the NetVSC had. In inline mode, between `enableInline` and
 * `disableInline`, what the kernel sends by the NetVSC comes up. Coordinator only.
 *
 * Nothing of the machine is touched, no address, route, neighbour or qdisc (but clsact before 6.6).
 * Everything goes with the process; what filters then remain let the kernel's packets pass.
 */
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { Driver, Path, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { everyStep } from '../every-step.ts';
import { type RedirectKind, type RedirectOrder, tendAttachment } from '../hook.ts';
import { awaitVanishing, type OpenTap } from '../tap/open.ts';
import { OwnTap } from '../tap/tend.ts';
import type { Surroundings } from '../upkeep.ts';
import { HostRedirect, type HostRedirectHoldings } from './redirect.ts';
import { openHostTap } from './tap.ts';

export interface HostOptions {
  readonly redirect?: RedirectKind;
  /** Whether what the machine's own stack sends is to come here at all. Default false. */
  readonly inline?: boolean;
  /** Whether the packets of kernel/platform.ts do not come here. */
  readonly protect?: boolean;
  readonly order?: RedirectOrder;
}

/** See `PathDevice.holdings`. */
export interface HostHoldings {
  readonly link: Link;
  readonly description: PathDescription;
  readonly fds: readonly number[];
  readonly ifindex: number;
  /** The tap's. */
  readonly name: string;
  readonly redirect: HostRedirectHoldings | undefined;
}

export class HostDevice implements PathDevice {
  readonly description: PathDescription;
  changed = (): void => {};
  readonly #shim: Shim;
  readonly #netlink: RtNetlink;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #link: Link;
  readonly #options: HostOptions;
  #fds: readonly number[] = [];
  #ifindex = 0;
  #tap: OwnTap | undefined;
  #redirect: HostRedirect | undefined;
  #disciplines = 0;

  /** @param link the NetVSC */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    memory: Memory,
    port: number,
    link: Link,
    options: HostOptions = {},
  ) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#memory = memory;
    this.#port = port;
    this.#link = link;
    this.#options = options;
    this.description = { driver: 'host', device: link.name, mode: '', redirect: '' };
  }

  get holdings(): HostHoldings {
    return {
      ...{ link: this.#link, description: this.description, redirect: this.#redirect?.holdings },
      ...{ fds: this.#fds, ifindex: this.#ifindex, name: this.#tap?.name ?? '' },
    };
  }

  /** Goes on with what another coordinator has opened. */
  adopt({ description, fds, ifindex, name, redirect }: HostHoldings): this {
    Object.assign(this.description, description);
    this.#note({ fds, ifindex, name });
    if (redirect !== undefined) this.#redirect = this.#newRedirect(redirect);
    return this;
  }

  /** The tap's own ifindex: the coordinator must not take it for a VF. 0 while closed. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    const { queues } = this.#memory.layout.geometry;
    const { mtu } = this.#link;
    const tap = openHostTap(this.#shim, this.#netlink, { queues, mtu }, (so) => this.#note(so));
    this.description.mode = `read/write, ${tap.segments} segments`;
    this.#fds.forEach((fd, queue) => {
      const inline = this.#options.inline ? 1 : 0;
      // NONE: a write is done when it returns.
      this.#slot(queue).open(Driver.HOST, { fd, inline, reader: Reader.NONE });
    });
  }

  /** After the synthetic path's device, which clears the mark of what is written here. */
  arm(): void {
    this.#redirect = this.#newRedirect();
    this.#redirect.attach();
    this.description.redirect = this.#redirect.name;
    this.changed();
  }

  /** Inline mode begins; only while armed, and only while workers read. May be called twice. @throws ERR_KERNEL */
  enableInline(): void {
    if (this.#options.inline) this.#redirect?.enableInline();
  }

  /** Inline mode ends, between two packets. Never throws. */
  disableInline(): void {
    this.#redirect?.disableInline();
  }

  disarm(): void {
    this.disableInline();
  }

  tend(around: Surroundings): void {
    const { links, netvsc, upkeep, thorough } = around;
    if (this.#tap === undefined) return; // closed
    this.#tap.tend(around);
    const disciplines = links.disciplines(netvsc.ifindex) + links.disciplines(this.#ifindex);
    if (this.#redirect === undefined || !(thorough || disciplines !== this.#disciplines)) return;
    this.#disciplines = disciplines;
    const { attachments } = this.#redirect;
    tendAttachment(attachments.tap, this.#tap.name, upkeep, this.changed);
    tendAttachment(attachments.netvsc, netvsc.name, upkeep, this.changed);
  }

  #note({ fds, ifindex, name }: OpenTap): void {
    this.#fds = fds;
    this.#ifindex = ifindex;
    if (ifindex > 0) this.#tap = new OwnTap(this.#netlink, { ifindex, name });
    this.changed();
  }

  close(): void {
    const ifindex = this.#ifindex;
    everyStep([
      () => this.#redirect?.release(),
      () => {
        this.#redirect = undefined;
      },
      ...this.#fds.map((fd, queue) => () => this.#closeQueue(fd, queue)),
      () => {
        this.#tap = undefined;
        this.#ifindex = 0; // that its link goes is our own doing
        this.changed();
      },
      () => ifindex > 0 && awaitVanishing(this.#netlink, ifindex),
    ]);
  }

  /** A descriptor's number is free for others once it is closed: it is struck out at once. */
  #closeQueue(fd: number, queue: number): void {
    if (fd < 0) return;
    this.#slot(queue).close();
    this.#shim.close(fd);
    this.#fds = this.#fds.with(queue, -1);
    this.changed();
  }

  #slot(queue: number): PathSlot {
    return this.#memory.slot({ port: this.#port, queue, path: Path.HOST });
  }

  #newRedirect(holdings?: HostRedirectHoldings): HostRedirect {
    const { redirect = 'tcx', protect = false, order } = this.#options;
    const request = {
      ...{ netvsc: this.#link.ifindex, tap: this.#ifindex },
      ...{ device: this.#link.name, kind: redirect, protect, first: order !== 'last' },
    };
    return new HostRedirect(this.#shim, this.#netlink, request, () => this.changed(), holdings);
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
}
