/**
 * The rtnetlink monitor: which links, qdiscs and tc filters change, as it happens.
 *
 * An object belongs to one thread, and to the network namespace that the thread was in at `open`. To lose no change:
 * open the monitor, then dump the links (rtnetlink.ts), then apply the monitor's events to the dump.
 */
import { Errno } from '../errors.ts';
import { type Link, parseLink } from './link.ts';
import { type Message, parseMessages } from './netlink.ts';
import { NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';
import { qdiscIfindex } from './traffic-control.ts';

export type LinkEvent =
  | { kind: 'new' | 'delete'; link: Link }
  /** A qdisc or a filter of that link has changed. */
  | { kind: 'qdisc'; ifindex: number }
  | { kind: 'overrun'; errno?: number };

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
export const RTMGRP_LINK = 1;
const RTMGRP_TC = 8;

/** Never waits: the caller waits for `fd` to become readable. */
export class LinkMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /**
   * @param bufferBytes room for events in the kernel: 4 MiB hold some two thousand
   * @param groups a bit mask of RTMGRP_*
   * @throws ERR_KERNEL, ERR_PERMISSION
   */
  static open(
    shim: Shim,
    bufferBytes = 4 * 1024 * 1024,
    groups: number = RTMGRP_LINK | RTMGRP_TC,
  ): LinkMonitor {
    return new LinkMonitor(NetlinkSocket.listen(shim, NETLINK.ROUTE, groups, bufferBytes));
  }

  /**
   * All events since the last call, in order. `overrun` says that events were lost at that point: dump the links
   * again. It has an errno if reading failed.
   */
  receive(): LinkEvent[] {
    const events: LinkEvent[] = [];
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === Errno.EAGAIN) return events;
      if (datagram === Errno.EINTR) continue;
      if (datagram === Errno.ENOBUFS) {
        events.push({ kind: 'overrun' });
        continue;
      }
      if (typeof datagram === 'number') {
        events.push({ kind: 'overrun', errno: -datagram });
        return events;
      }
      for (const message of parseMessages(datagram)) {
        const event = linkEvent(message);
        if (event) events.push(event);
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** `undefined` for a message that is about no link, or only about its role as a bridge port. */
export function linkEvent({ type, payload }: Message): LinkEvent | undefined {
  const ifindex = qdiscIfindex(type, payload);
  if (ifindex !== undefined) return { kind: 'qdisc', ifindex };
  if (type !== RTM_NEWLINK && type !== RTM_DELLINK) return undefined;
  const link = parseLink(payload);
  return link && { kind: type === RTM_NEWLINK ? 'new' : 'delete', link };
}
