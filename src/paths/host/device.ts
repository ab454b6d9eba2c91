/**
 * The path to the machine's own stack, a multi-queue tap tied to the NetVSC on the kernel's side of it:
 * what is written to it the kernel receives as if the NetVSC had. In inline mode, between `engage` and
 * `disengage`, what the kernel sends by the NetVSC comes up. Coordinator only.
 *
 * Nothing of the machine is touched, no address, route, neighbour or qdisc (but clsact before 6.6).
 * Everything goes with the process; what filters then remain let the kernel's packets pass.
 */
import { Bpf } from '../../kernel/bpf.ts';
import type { Link, RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { KernelCounter } from '../../memory/counters.ts';
import { Driver, Path, PathSlot } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { TieKind } from '../hook.ts';
import type { PathDescription, PathDevice } from '../path.ts';
import { awaitVanishing } from '../tap/open.ts';
import { openHostTap } from './tap.ts';
import { HostTie } from './tie.ts';

export interface HostOptions {
  readonly tie?: TieKind;
  /** Whether what the machine's own stack sends is to come here at all. Default false. */
  readonly inline?: boolean;
}

export class HostDevice implements PathDevice {
  readonly description: PathDescription;
  readonly #shim: Shim;
  readonly #netlink: RtNetlink;
  readonly #memory: Memory;
  readonly #port: number;
  readonly #link: Link;
  readonly #kind: TieKind;
  readonly #inline: boolean;
  #fds: readonly number[] = [];
  #ifindex = 0;
  #tie: HostTie | undefined;

  /** @param link the NetVSC */
  constructor(
    shim: Shim,
    netlink: RtNetlink,
    memory: Memory,
    port: number,
    link: Link,
    { tie = 'tcx', inline = false }: HostOptions = {},
  ) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#memory = memory;
    this.#port = port;
    this.#link = link;
    this.#kind = tie;
    this.#inline = inline;
    this.description = { driver: 'host', device: link.name, mode: '', tie: '' };
  }

  /** The tap's own ifindex: the coordinator must not take it for a VF. 0 while closed. */
  get ifindex(): number {
    return this.#ifindex;
  }

  open(): void {
    const { layout, words } = this.#memory;
    const { queues } = layout.geometry;
    const tap = openHostTap(this.#shim, this.#netlink, { queues, mtu: this.#link.mtu });
    this.#fds = tap.fds;
    this.#ifindex = tap.ifindex;
    this.description.mode = `read/write, ${tap.segments} segments`;
    this.#fds.forEach((fd, queue) => {
      const slot = layout.slot(this.#port, queue, Path.HOST);
      words[(slot + PathSlot.fd) >> 2] = fd;
      words[(slot + PathSlot.inline) >> 2] = this.#inline ? 1 : 0;
      words[(slot + PathSlot.rescuable) >> 2] = 0; // a write is done when it returns
      words[(slot + PathSlot.driver) >> 2] = Driver.HOST;
    });
  }

  /** After the synthetic path's device, which clears the mark of what is written here. */
  arm(): void {
    this.#tie = HostTie.attach(new Bpf(this.#shim), this.#netlink, this.#shim, {
      netvsc: this.#link.ifindex,
      tap: this.#ifindex,
      device: this.#link.name,
      kind: this.#kind,
    });
    this.description.tie = this.#tie.name;
  }

  /** Inline mode begins; only while armed, and only while workers read. May be called twice. @throws ERR_KERNEL */
  engage(): void {
    if (this.#inline) this.#tie?.engage();
  }

  /** Inline mode ends, between two packets. Never throws. */
  disengage(): void {
    this.#tie?.disengage();
  }

  disarm(): void {
    this.disengage();
  }

  close(): void {
    this.#tie?.release();
    this.#tie = undefined;
    const { layout, words } = this.#memory;
    this.#fds.forEach((fd, queue) => {
      words[(layout.slot(this.#port, queue, Path.HOST) + PathSlot.driver) >> 2] = Driver.CLOSED;
      this.#shim.close(fd);
    });
    if (this.#fds.length > 0) awaitVanishing(this.#netlink, this.#ifindex);
    this.#fds = [];
    this.#ifindex = 0; // that its link goes is our own doing
  }

  /** The tap counts for all its queues together: they are reported on queue 0. */
  dropped(queue: number): Record<KernelCounter, number> {
    const statistics = queue === 0 ? this.#netlink.link(this.#ifindex)?.statistics : undefined;
    return {
      rxDropped: statistics?.txDropped ?? 0,
      rxRingFull: 0,
      rxFillEmpty: 0,
      txInvalid: statistics?.rxDropped ?? 0,
    };
  }
}
