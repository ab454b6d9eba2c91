/**
 * The path to the machine's own stack: a multi-queue tap redirected to and from the NetVSC on its kernel side. The kernel
 * receives what is written to the tap as if the NetVSC had received it. In inline mode, from `enableInline` to
 * `disableInline`, the tap brings up what the kernel sends through the NetVSC. Coordinator only.
 *
 * No address, route, neighbour or qdisc of the machine changes (but clsact before 6.6). The kernel removes everything with
 * the process; filters that remain before 6.6 pass the kernel's packets.
 */
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { KernelCounter } from '../../memory/counters.ts';
import { Driver, Path, Reader } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { everyStep } from '../every-step.ts';
import { OwnTap } from '../tap/own-tap.ts';
import { tendAttachment } from '../tc-attachment.ts';
import type { RedirectKind, RedirectOrder } from '../tc-attachments.ts';
import { DisciplineWatch, type Surroundings } from '../upkeep.ts';
import { HostRedirect, type HostRedirectHoldings } from './redirect.ts';
import { openHostTap } from './tap.ts';

export interface HostOptions {
  readonly redirect?: RedirectKind;
  /** Whether workers ever get what the machine's own stack sends. Default false. */
  readonly inline?: boolean;
  /** Whether the packets of kernel/platform.ts stay with the kernel. */
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
  readonly #tap: OwnTap;
  #redirect: HostRedirect | undefined;
  readonly #disciplines = new DisciplineWatch();

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
    const slot = (queue: number) => memory.slot({ port, queue, path: Path.HOST });
    this.#tap = new OwnTap(shim, netlink, slot, () => this.changed());
    this.description = { driver: 'host', device: link.name, mode: '', redirect: '' };
  }

  get holdings(): HostHoldings {
    const { fds, ifindex, name } = this.#tap.holdings;
    const redirect = this.#redirect?.holdings;
    return { link: this.#link, description: this.description, fds, ifindex, name, redirect };
  }

  /** Continues what another coordinator has opened. */
  adopt({ description, fds, ifindex, name, redirect }: HostHoldings): this {
    Object.assign(this.description, description);
    this.#tap.hold({ fds, ifindex, name });
    if (redirect !== undefined) this.#redirect = this.#newRedirect(redirect);
    return this;
  }

  /** The tap's own ifindex: the coordinator must not take the tap for a VF. 0 while closed. */
  get ifindex(): number {
    return this.#tap.ifindex;
  }

  open(): void {
    const { queues } = this.#memory.layout.geometry;
    const { mtu } = this.#link;
    const inline = this.#options.inline ? 1 : 0;
    const tap = openHostTap(this.#shim, this.#netlink, { queues, mtu }, (so) => this.#tap.hold(so));
    this.description.mode = `read/write, ${tap.segments} segments`;
    tap.fds.forEach((fd, queue) => {
      const slot = this.#memory.slot({ port: this.#port, queue, path: Path.HOST });
      slot.open(Driver.HOST, { fd, inline, reader: Reader.NONE }); // NONE: a write is done when it returns
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
    const { netvsc, upkeep, thorough } = around;
    const { ifindex } = this.#tap;
    if (ifindex === 0) return; // closed
    this.#tap.tend(around);
    if (this.#redirect === undefined) return;
    const altered = this.#disciplines.hasChanged(around, netvsc.ifindex, ifindex);
    if (!thorough && !altered) return;
    const { attachments } = this.#redirect;
    tendAttachment(attachments.tap, this.#tap.name, upkeep, this.changed);
    tendAttachment(attachments.netvsc, netvsc.name, upkeep, this.changed);
  }

  close(): void {
    everyStep([
      () => this.#redirect?.release(),
      () => {
        this.#redirect = undefined;
      },
      ...this.#tap.closings,
    ]);
  }

  dropped(queue: number): Record<KernelCounter, number> {
    return this.#tap.dropped(queue);
  }

  #newRedirect(holdings?: HostRedirectHoldings): HostRedirect {
    const { redirect: kind = 'tcx', protect = false, order } = this.#options;
    const { ifindex: netvsc, name: device } = this.#link;
    const request = { netvsc, tap: this.#tap.ifindex, device, kind, protect, first: order !== 'last' };
    return new HostRedirect(this.#shim, this.#netlink, request, () => this.changed(), holdings);
  }
}
