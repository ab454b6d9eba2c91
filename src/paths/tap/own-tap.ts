/**
 * A tap that a path device has open: its descriptors, its upkeep, and its end. Coordinator only.
 *
 * Others may set the tap down, put it into a bridge or another namespace, or delete it. Its name and its MTU do not matter
 * to packets: programs know it by its ifindex, and neither a redirect nor a read looks at its MTU.
 */
import { IFF, type Link, type LinkChange, type RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import { changed, DisciplineWatch, type Surroundings } from '../upkeep.ts';
import { awaitVanishing, type OpenTap, QUEUE_LENGTH } from './open.ts';

const CLOSED: OpenTap = { fds: [], ifindex: 0, name: '' };

export class OwnTap {
  readonly #shim: Shim;
  readonly #netlink: RtNetlink;
  readonly #slot: (queue: number) => PathSlot;
  readonly #changed: () => void;
  #tap = CLOSED;
  /** It has been in the table of links: only then does its absence mean that it is gone. */
  #seen = false;
  #disciplines = new DisciplineWatch();

  /**
   * @param slot the path slot of a queue
   * @param changed called after each change of the holdings
   */
  constructor(shim: Shim, netlink: RtNetlink, slot: (queue: number) => PathSlot, changed: () => void) {
    this.#shim = shim;
    this.#netlink = netlink;
    this.#slot = slot;
    this.#changed = changed;
  }

  get fds(): readonly number[] {
    return this.#tap.fds;
  }

  /** 0 while closed. */
  get ifindex(): number {
    return this.#tap.ifindex;
  }

  /** The name as of the last look. */
  get name(): string {
    return this.#tap.name;
  }

  get holdings(): OpenTap {
    return this.#tap;
  }

  /** Takes over what is open so far, or what another coordinator has opened. */
  hold({ fds, ifindex, name }: OpenTap): void {
    if (ifindex !== this.#tap.ifindex) {
      this.#seen = false;
      this.#disciplines = new DisciplineWatch();
    }
    this.#tap = { fds, ifindex, name };
    this.#changed();
  }

  /** @throws ERR_DEVICE_CHANGED if only another tap will do */
  tend(around: Surroundings): void {
    const { links, upkeep, thorough } = around;
    const { ifindex, name } = this.#tap;
    const known = links.link(ifindex);
    if (known !== undefined) this.#tap = { ...this.#tap, name: known.name };
    else if (this.#seen) throw changed(name, 'it was deleted, or moved to another network namespace');
    this.#seen ||= known !== undefined;
    // The table may be older than our last repair: #repairLink asks the kernel.
    if (known !== undefined && (thorough || faultsOf(known).length > 0)) this.#repairLink(upkeep);
    if (!this.#disciplines.hasChanged(around, ifindex) || this.#netlink.isNoqueue(ifindex)) return;
    upkeep.repair(this.name, 'its queueing discipline was changed', () => this.#netlink.setNoqueue(ifindex));
  }

  /** The tap counts for all its queues together: the counts are reported on queue 0. */
  dropped(queue: number): Record<KernelCounter, number> {
    const { ifindex } = this.#tap;
    const statistics = queue === 0 && ifindex > 0 ? this.#netlink.link(ifindex)?.statistics : undefined;
    return {
      ...NOTHING_DROPPED,
      rxDropped: statistics?.txDropped ?? 0,
      txInvalid: statistics?.rxDropped ?? 0,
    };
  }

  /** Steps that close the tap and its path slots: see `everyStep`. */
  get closings(): (() => void)[] {
    const { ifindex, fds } = this.#tap;
    return [
      ...fds.map((fd, queue) => () => this.#closeQueue(fd, queue)),
      () => this.hold({ ...CLOSED, fds: this.fds }), // before its link goes: another program has not removed it
      () => {
        if (ifindex > 0) awaitVanishing(this.#netlink, ifindex);
      },
    ];
  }

  #closeQueue(fd: number, queue: number): void {
    if (fd < 0) return;
    const slot = this.#slot(queue);
    const { uringFd } = slot; // of a worker that ended before it could close it
    if (uringFd > 0) this.#shim.close(uringFd);
    slot.close();
    this.#shim.close(fd);
    // Another object may get the same number now.
    this.hold({ ...this.#tap, fds: this.fds.with(queue, -1) });
  }

  #repairLink(upkeep: Surroundings['upkeep']): void {
    const { ifindex, name } = this.#tap;
    const link = this.#netlink.link(ifindex);
    if (link === undefined) return; // its DELLINK is under way
    for (const [fault, change] of faultsOf(link)) {
      upkeep.repair(name, fault, () => this.#netlink.setLink(ifindex, change));
    }
    const { xdpProgram } = link;
    const detail = `XDP program ${xdpProgram} is attached to it: the packets that it takes are not sent`;
    upkeep.tell(`${ifindex} xdp`, xdpProgram === 0 ? undefined : changed(name, detail));
  }
}

function faultsOf({ master, txQueueLength, carrier, flags }: Link): [fault: string, change: LinkChange][] {
  const found: [string, LinkChange][] = [];
  if (master !== 0) found.push(['it was put under another device', { master: 0 }]);
  if (txQueueLength !== QUEUE_LENGTH) {
    found.push(['its queue was given another length', { txQueueLength: QUEUE_LENGTH }]);
  }
  if ((flags & IFF.UP) === 0) found.push(['it was set down', { up: true }]);
  else if (!carrier) found.push(['its carrier was taken', { carrier: true }]);
  return found;
}
