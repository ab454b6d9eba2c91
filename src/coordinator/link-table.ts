/**
 * The links of this network namespace, kept current: rtnetlink subscribed first, dumped then, dumped again
 * whenever the kernel lost messages (ENOBUFS) or reading them failed. uevents are only a reason to look again: what
 * sysfs says of a VF may be there later than its link.
 *
 * Coordinator thread only.
 */
import { TwinpathError } from '../errors.ts';
import { EthtoolMonitor, EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import { onReadable, type Readiness } from '../kernel/readiness.ts';
import { type Link, LinkMonitor, RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import { UeventMonitor } from '../kernel/uevent.ts';

/** Pauses before the links are read again after a failure, in ms; the last one repeats. */
const RETRY_MILLIS = [10, 50, 100, 250];

export interface LinkEvents {
  /** After each change, with the ifindexes that went, or went down, in between. */
  changed(gone: ReadonlySet<number>, downed: ReadonlySet<number>): void;
  /** Settings of a device were changed, by anybody: its ifindex, undefined for any device. */
  settingsChanged(ifindex: number | undefined): void;
  /** The links could not be read: what is known of them may be old. It is tried again. */
  failed(error: unknown): void;
}

export class LinkTable {
  readonly netlink: RtNetlink;
  readonly ethtool: EthtoolNetlink;
  readonly #settings: EthtoolMonitor;
  readonly #monitor: LinkMonitor;
  readonly #uevents: UeventMonitor;
  readonly #readiness: Readiness[];
  readonly #events: LinkEvents;
  readonly #links = new Map<number, Link>();
  /** Failures in a row; while there are any, messages have been lost. */
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  readonly #disciplines = new Map<number, number>();
  #overruns = 0;

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  constructor(shim: Shim, events: LinkEvents) {
    this.#events = events;
    const opened: { close(): void }[] = [];
    const keep = <T extends { close(): void }>(socket: T): T => {
      opened.push(socket);
      return socket;
    };
    try {
      this.#monitor = keep(LinkMonitor.open(shim));
      this.#uevents = keep(UeventMonitor.open(shim));
      this.netlink = keep(RtNetlink.open(shim));
      this.ethtool = keep(EthtoolNetlink.open(shim));
      this.#settings = keep(EthtoolMonitor.open(shim));
      this.#dump();
    } catch (error) {
      for (const socket of opened) socket.close();
      throw error;
    }
    this.#readiness = [
      onReadable(this.#monitor.fd, () => this.look(), events.failed),
      onReadable(this.#uevents.fd, () => this.#hint(), events.failed),
      onReadable(
        this.#settings.fd,
        () => {
          // Several settings of a device are often changed at once.
          for (const ifindex of new Set(this.#settings.receive())) events.settingsChanged(ifindex);
        },
        events.failed,
      ),
    ];
  }

  get links(): readonly Link[] {
    return [...this.#links.values()];
  }

  link(ifindex: number): Link | undefined {
    return this.#links.get(ifindex);
  }

  /** Takes in what the kernel has told since the last look, or all links anew if that is not known. Never throws. */
  look(): void {
    const gone = new Set<number>();
    const downed = new Set<number>();
    try {
      let lost = this.#failures > 0;
      for (const event of this.#monitor.receive()) {
        if (event.kind === 'overrun') {
          lost = true;
          if (event.errno !== undefined) this.#events.failed(unreadable(event.errno));
        } else if (event.kind === 'discipline') {
          this.#disciplines.set(event.ifindex, (this.#disciplines.get(event.ifindex) ?? 0) + 1);
        } else if (event.kind === 'delete') {
          this.#links.delete(event.link.ifindex);
          this.#disciplines.delete(event.link.ifindex);
          gone.add(event.link.ifindex);
        } else this.#note(event.link, downed);
      }
      if (lost) {
        this.#overruns++;
        for (const ifindex of this.#dump(downed)) gone.add(ifindex);
      }
      this.#failures = 0;
    } catch (error) {
      this.#later();
      this.#events.failed(error);
    }
    // Also after a failure: what had been read by then is known.
    this.#events.changed(gone, downed);
  }

  /** Counts up when a qdisc or a filter of that link has changed, or may have. */
  disciplines(ifindex: number): number {
    return (this.#disciplines.get(ifindex) ?? 0) + this.#overruns;
  }

  close(): void {
    clearTimeout(this.#retry);
    for (const readiness of this.#readiness) readiness.close();
    this.#monitor.close();
    this.#uevents.close();
    this.netlink.close();
    this.ethtool.close();
    this.#settings.close();
  }

  #later(): void {
    const pause = RETRY_MILLIS[Math.min(this.#failures++, RETRY_MILLIS.length - 1)]!;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.look(), pause);
  }

  #hint(): void {
    try {
      const events = this.#uevents.receive();
      const ours = events.some(
        ({ subsystem, action }) => subsystem === 'net' || subsystem === 'pci' || action === 'overrun',
      );
      if (!ours) return;
    } catch (error) {
      this.#events.failed(error);
    }
    // Not a dump: the monitor would tell afterwards what the dump has shown already, such as that a device
    // is down which has come up since. Every device's uevent comes with its message, before or after.
    this.look();
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

const unreadable = (errno: number): TwinpathError =>
  new TwinpathError('ERR_KERNEL', { syscall: 'recv(RTNLGRP_LINK)', errno });
