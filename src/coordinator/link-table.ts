/**
 * The links of this network namespace, kept current: it subscribes to rtnetlink, then dumps all links, and dumps them again
 * whenever the kernel lost messages (ENOBUFS) or reading them failed. A uevent is only a reason to check again: sysfs may
 * show a VF later than its link.
 *
 * Coordinator thread only.
 */
import { TwinpathError } from '../errors.ts';
import { EthtoolMonitor } from '../kernel/ethtool-monitor.ts';
import { EthtoolNetlink } from '../kernel/ethtool-netlink.ts';
import { LinkMonitor } from '../kernel/link-monitor.ts';
import { onReadable, type Readiness } from '../kernel/readiness.ts';
import { type Link, RtNetlink } from '../kernel/rtnetlink.ts';
import type { Shim } from '../kernel/shim.ts';
import { UeventMonitor } from '../kernel/uevent.ts';

/** Pauses before the links are read again after a failure, in ms; the last one repeats. */
const RETRY_MILLIS = [10, 50, 100, 250];

export interface LinkEvents {
  /** After each change, with the ifindexes that disappeared, or went down, since the last call. */
  changed(gone: ReadonlySet<number>, downed: ReadonlySet<number>): void;
  /** A program has changed settings of a device: its ifindex, undefined for any device. */
  settingsChanged(ifindex: number | undefined): void;
  /** The links could not be read, and may be outdated. The table tries again. */
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
  /** Failures in a row. After a failure, messages have been lost. */
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  readonly #disciplines = new Map<number, number>();
  #overruns = 0;

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  constructor(shim: Shim, events: LinkEvents) {
    this.#events = events;
    const opened: { close(): void }[] = [];
    const opens = <T extends { close(): void }>(socket: T): T => {
      opened.push(socket);
      return socket;
    };
    try {
      this.#monitor = opens(LinkMonitor.open(shim));
      this.#uevents = opens(UeventMonitor.open(shim));
      this.netlink = opens(RtNetlink.open(shim));
      this.ethtool = opens(EthtoolNetlink.open(shim));
      this.#settings = opens(EthtoolMonitor.open(shim));
      this.#dump();
    } catch (error) {
      for (const socket of opened) socket.close();
      throw error;
    }
    this.#readiness = [
      onReadable(this.#monitor.fd, () => this.update(), events.failed),
      onReadable(this.#uevents.fd, () => this.#onUevent(), events.failed),
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

  /** Reads the kernel's messages since the last call, or all links if messages were lost. Never throws. */
  update(): void {
    const gone = new Set<number>();
    const downed = new Set<number>();
    try {
      let lost = this.#failures > 0;
      for (const event of this.#monitor.receive()) {
        if (event.kind === 'overrun') {
          lost = true;
          if (event.errno !== undefined) this.#events.failed(unreadable(event.errno));
        } else if (event.kind === 'qdisc') {
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
      this.#retryLater();
      this.#events.failed(error);
    }
    // Also after a failure, since some messages may have been read before it.
    this.#events.changed(gone, downed);
  }

  /** A counter that grows when a qdisc or a filter of that link has changed, or may have. */
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

  #retryLater(): void {
    const pause = RETRY_MILLIS[Math.min(this.#failures++, RETRY_MILLIS.length - 1)]!;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.update(), pause);
  }

  #onUevent(): void {
    try {
      const events = this.#uevents.receive();
      const ours = events.some(
        ({ subsystem, action }) => subsystem === 'net' || subsystem === 'pci' || action === 'overrun',
      );
      if (!ours) return;
    } catch (error) {
      this.#events.failed(error);
    }
    // Not a dump: the monitor would report older states after it, such as that a device is down which has come up since.
    // Each uevent of a device comes with an rtnetlink message, before or after it.
    this.update();
  }

  /** A link that went down and up again between two calls sends two messages: the first counts too. */
  #note(link: Link, downed: Set<number>): void {
    const before = this.#links.get(link.ifindex);
    if (before !== undefined && (before.flags & 1) === 1 && (link.flags & 1) === 0) downed.add(link.ifindex);
    this.#links.set(link.ifindex, link);
  }

  /** Reads all links. Returns the ifindexes that have disappeared. */
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
