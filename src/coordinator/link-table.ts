/**
 * The links of this network namespace, kept current: rtnetlink subscribed first, dumped then, dumped again
 * whenever the kernel lost messages (ENOBUFS). uevents are only a reason to look again: what sysfs says of a
 * VF may be there later than its link.
 *
 * Coordinator thread only.
 */
import { onReadable, type Readiness } from '../kernel/readiness.ts';
import { type Link, LinkMonitor, RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import { UeventMonitor } from '../kernel/uevent.ts';

export class LinkTable {
  readonly netlink: RtNetlink;
  readonly #monitor: LinkMonitor;
  readonly #uevents: UeventMonitor;
  readonly #readiness: Readiness[];
  readonly #changed: (gone: ReadonlySet<number>, downed: ReadonlySet<number>) => void;
  readonly #links = new Map<number, Link>();

  /** @param changed called after each change, with the ifindexes that went, or went down, in between */
  constructor(shim: Shim, changed: (gone: ReadonlySet<number>, downed: ReadonlySet<number>) => void) {
    this.#changed = changed;
    const opened: { close(): void }[] = [];
    const keep = <T extends { close(): void }>(socket: T): T => {
      opened.push(socket);
      return socket;
    };
    try {
      this.#monitor = keep(LinkMonitor.open(shim));
      this.#uevents = keep(UeventMonitor.open(shim));
      this.netlink = keep(RtNetlink.open(shim));
      this.#dump();
    } catch (error) {
      for (const socket of opened) socket.close();
      throw error;
    }
    this.#readiness = [
      onReadable(this.#monitor.fd, () => this.#receive()),
      onReadable(this.#uevents.fd, () => this.#hint()),
    ];
  }

  get links(): readonly Link[] {
    return [...this.#links.values()];
  }

  link(ifindex: number): Link | undefined {
    return this.#links.get(ifindex);
  }

  close(): void {
    for (const readiness of this.#readiness) readiness.close();
    this.#monitor.close();
    this.#uevents.close();
    this.netlink.close();
  }

  #receive(): void {
    const gone = new Set<number>();
    const downed = new Set<number>();
    let lost = false;
    for (const event of this.#monitor.receive()) {
      if (event.kind === 'overrun') lost = true;
      else if (event.kind === 'delete') {
        this.#links.delete(event.link.ifindex);
        gone.add(event.link.ifindex);
      } else this.#note(event.link, downed);
    }
    if (lost) for (const ifindex of this.#dump(downed)) gone.add(ifindex);
    this.#changed(gone, downed);
  }

  #hint(): void {
    const events = this.#uevents.receive();
    const ours = events.some(
      ({ subsystem, action }) => subsystem === 'net' || subsystem === 'pci' || action === 'overrun',
    );
    // Not a dump: the monitor would tell afterwards what the dump has shown already, such as that a device
    // is down which has come up since. Every device's uevent comes with its message, before or after.
    if (ours) this.#receive();
  }

  /** Down and up again between two looks is two messages: the first must not be forgotten. */
  #note(link: Link, downed: Set<number>): void {
    const before = this.#links.get(link.ifindex);
    if (before !== undefined && (before.flags & 1) === 1 && (link.flags & 1) === 0) downed.add(link.ifindex);
    this.#links.set(link.ifindex, link);
  }

  /** Reads all links anew; returns the ifindexes that are no longer there. */
  #dump(downed = new Set<number>()): number[] {
    const found = new Map(this.netlink.links().map((link) => [link.ifindex, link]));
    const gone = [...this.#links.keys()].filter((ifindex) => !found.has(ifindex));
    for (const ifindex of gone) this.#links.delete(ifindex);
    for (const link of found.values()) this.#note(link, downed);
    return gone;
  }
}
