/**
 * Watches whether links are up, without ever waiting: messages of rtnetlink, and a question that takes no lock.
 *
 * It never dumps the links, which takes RTNL. So it knows a link's state only from the messages since it was opened, and
 * nothing once the kernel has lost some of them.
 *
 * Supervisor's thread only. Its descriptors are in the control page, since a thread that dies does not close them.
 */
import type { Memory } from '../memory/shared.ts';
import { isRunning, openIoctlSocket } from './device-ioctl.ts';
import { IFF } from './link.ts';
import { LinkMonitor, RTMGRP_LINK } from './link-monitor.ts';
import { inNamespace } from './namespace.ts';
import type { Shim } from './shim.ts';

/** What the messages of one reading say about a link. */
export interface LinkState {
  /** It disappeared from this network namespace. One with the same ifindex may have appeared since. */
  gone: boolean;
  /** It was down, and may be up again. */
  wentDown: boolean;
  /** As of the last message. */
  up: boolean;
  carrier: boolean;
}

/** The messages since the last reading. */
export interface Reading {
  /** By ifindex. */
  readonly links: ReadonlyMap<number, LinkState>;
  /** The kernel has lost messages, or they could not be read: then the errno, positive, or 0. */
  readonly lost: boolean;
  readonly errno: number;
}

export class LinkWatch {
  readonly #shim: Shim;
  readonly #monitor: LinkMonitor;
  readonly #flagsFd: number;

  private constructor(shim: Shim, monitor: LinkMonitor, flagsFd: number) {
    this.#shim = shim;
    this.#monitor = monitor;
    this.#flagsFd = flagsFd;
  }

  /**
   * Opens it in a network namespace, or in the thread's own. The thread stays in its own, which its threads inherit.
   *
   * @throws ERR_KERNEL, and the errors of `inNamespace`; {@link closeLinkWatch} closes what is open then
   */
  static open(shim: Shim, { control }: Memory, netns: string | undefined): LinkWatch {
    const open = (): LinkWatch => {
      const monitor = LinkMonitor.open(shim, undefined, RTMGRP_LINK);
      control.linksFd = monitor.fd;
      control.flagsFd = openIoctlSocket(shim);
      return new LinkWatch(shim, monitor, control.flagsFd);
    };
    return netns === undefined ? open() : inNamespace(shim, netns, open);
  }

  /** Readable when there are messages. */
  get fd(): number {
    return this.#monitor.fd;
  }

  read(): Reading {
    const links = new Map<number, LinkState>();
    let lost = false;
    let errno = 0;
    for (const event of this.#monitor.receive()) {
      if (event.kind === 'overrun') {
        lost = true;
        errno = event.errno ?? errno;
      } else if (event.kind !== 'qdisc') {
        const { ifindex, flags, carrier } = event.link;
        const gone = event.kind === 'delete';
        const up = !gone && (flags & IFF.UP) !== 0;
        const before = links.get(ifindex);
        links.set(ifindex, {
          gone: gone || before?.gone === true,
          wentDown: !up || before?.wentDown === true,
          up,
          carrier,
        });
      }
    }
    return { links, lost, errno };
  }

  /** See `isRunning` in device-ioctl.ts. */
  isRunning(ifindex: number): boolean | undefined {
    return isRunning(this.#shim, this.#flagsFd, ifindex);
  }
}

/** Closes the descriptors, once no thread waits for them. A second call does nothing. */
export function closeLinkWatch(shim: Shim, { control }: Memory): void {
  for (const fd of [control.linksFd, control.flagsFd]) if (fd > 0) shim.close(fd);
  control.linksFd = control.flagsFd = 0;
}
