/**
 * rtnetlink: links, addresses, default routes and tc filters; and the monitor that tells of changes.
 *
 * Each object belongs to one thread and to the network namespace that thread was in at `open`. Calls
 * are synchronous and those that change something take RTNL, which may be held for seconds while the
 * host adds or removes a VF: coordinator thread and command line only.
 *
 * Everything read is stale the moment it arrives. The order that loses nothing: open the monitor, then
 * dump, then apply the monitor's events over the dump. Key by ifindex; names change underneath.
 */
import { Errno } from '../errors.ts';
import { IFF, IFINFOMSG, IFLA, type Link, macBytes, parseLink } from './link.ts';
import { type Message, type MessageBuilder, NLM_F, parseMessages } from './netlink.ts';
import { accept, NETLINK, NetlinkSocket } from './netlink-socket.ts';
import {
  AF_INET,
  AF_INET6,
  IFADDRMSG,
  type InterfaceAddress,
  NHMSG,
  nexthopLinks,
  parseAddress,
  parseDefaultRoute,
  RTMSG,
} from './routes.ts';
import type { Shim } from './shim.ts';
import * as tc from './traffic-control.ts';

export { ARPHRD_ETHER, IFF, type Link, macBytes, normalizeMac } from './link.ts';
export type { InterfaceAddress } from './routes.ts';

export type LinkEvent =
  | { kind: 'new' | 'delete'; link: Link }
  /** A qdisc or a filter of that link has changed. */
  | { kind: 'discipline'; ifindex: number }
  | { kind: 'overrun'; errno?: number };

/** What {@link RtNetlink.setLink} can change; what is absent stays. */
export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly name?: string;
  /** A text for people; '' takes it away. */
  readonly alias?: string;
  readonly txQueueLength?: number;
  /** IPv6 address generation: 0 EUI-64, 1 none. */
  readonly addrGenMode?: number;
  readonly noArp?: boolean;
  /** The user's own request for it, not the count in {@link Link}.promiscuity. */
  readonly promiscuous?: boolean;
  /** Moves the device into that namespace; its ifindex may change on the way. */
  readonly netnsFd?: number;
  readonly address?: string;
  /** ifindex of the device above; 0 none. */
  readonly master?: number;
  readonly carrier?: boolean;
}

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETNEXTHOP = 106;
/**
 * A bit of a dump's mask that concerns bridge ports alone. With any mask the kernel makes room for the largest link there
 * is (rtnl_calcit); without one it leaves out, in silence, a link whose message is longer than 32 KiB.
 */
const RTEXT_FILTER_MRP = 1 << 4;
const RTMGRP_LINK = 1;
const RTMGRP_TC = 8;

const IFLA_INET6_ADDR_GEN_MODE = 8;
/** include/uapi/linux/if_link.h */
const IFLA_XDP_FD = 1;
const IFLA_XDP_FLAGS = 3;
const XDP_FLAGS_UPDATE_IF_NOEXIST = 1;
const XDP_FLAGS_DRV_MODE = 4;

export class RtNetlink {
  readonly #socket: NetlinkSocket;
  /** Links whose clsact is of our making. */
  readonly #clsacts = new Set<number>();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim): RtNetlink {
    return new RtNetlink(NetlinkSocket.open(shim, NETLINK.ROUTE));
  }

  /** Every link of the namespace, by ifindex. */
  links(): Link[] {
    const header = new Uint8Array(IFINFOMSG);
    const build = (builder: MessageBuilder): unknown =>
      builder.begin(RTM_GETLINK, NLM_F.REQUEST | NLM_F.DUMP, header).u32(IFLA.EXT_MASK, RTEXT_FILTER_MRP);
    const replies = this.#socket.dump(build, { syscall: 'RTM_GETLINK' });
    // A dump that was interrupted and believed at last may list a link twice: the later entry counts.
    const found = new Map<number, Link>();
    for (const link of replies.map(({ payload }) => parseLink(payload)))
      if (link) found.set(link.ifindex, link);
    return [...found.values()].sort((a, b) => a.ifindex - b.ifindex);
  }

  /** By ifindex, name or alternative name; `undefined` when there is none. */
  link(nameOrIndex: string | number): Link | undefined {
    const { builder } = this.#socket;
    builder.begin(
      RTM_GETLINK,
      NLM_F.REQUEST | NLM_F.ACK,
      ifinfomsg(typeof nameOrIndex === 'number' ? nameOrIndex : 0),
    );
    if (typeof nameOrIndex === 'string') {
      // No device name is longer than 15 bytes, so what is longer can only be an alternative name.
      if (Buffer.byteLength(nameOrIndex) > 127) return undefined;
      if (Buffer.byteLength(nameOrIndex) > 15) builder.string(IFLA.ALT_IFNAME, nameOrIndex);
      else builder.string(IFLA.IFNAME, nameOrIndex);
    }
    const subject = { syscall: 'RTM_GETLINK', device: String(nameOrIndex) };
    const answer = this.#socket.request(subject);
    if (answer.error === Errno.ENODEV) return undefined;
    accept(answer, subject);
    return answer.replies.map(({ payload }) => parseLink(payload)).find((link) => link !== undefined);
  }

  /** IPv4 and IPv6 addresses of all links. */
  addresses(): InterfaceAddress[] {
    const replies = this.#dump(RTM_GETADDR, new Uint8Array(IFADDRMSG), 'RTM_GETADDR');
    return replies.map(({ payload }) => parseAddress(payload)).filter((address) => address !== undefined);
  }

  /** The links that a default route of the main table leaves by, each hop of a multipath route included. */
  defaultRoutes(): number[] {
    const found = new Set<number>();
    let nexthops: Message[] | undefined;
    for (const family of [AF_INET, AF_INET6]) {
      const header = new Uint8Array(RTMSG);
      header[0] = family;
      for (const { payload } of this.#dump(RTM_GETROUTE, header, 'RTM_GETROUTE')) {
        const route = parseDefaultRoute(payload);
        if (!route) continue;
        let { links } = route;
        // With sysctl nexthop_compat_mode off a route names its nexthop object and nothing else.
        if (links.length === 0 && route.nexthop !== 0) {
          nexthops ??= this.#dump(RTM_GETNEXTHOP, new Uint8Array(NHMSG), 'RTM_GETNEXTHOP');
          links = nexthopLinks(route.nexthop, nexthops);
        }
        for (const ifindex of links) found.add(ifindex);
      }
    }
    return [...found].sort((a, b) => a - b);
  }

  /**
   * Changes a link; the kernel applies what it can in its own order and stops at the first refusal.
   *
   * @throws ERR_KERNEL with the errno and the kernel's text, ERR_PERMISSION
   */
  setLink(ifindex: number, change: LinkChange): void {
    const { builder } = this.#socket;
    builder.begin(RTM_SETLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex, ...flagsOf(change)));
    if (change.address !== undefined) builder.bytes(IFLA.ADDRESS, macBytes(change.address));
    if (change.mtu !== undefined) builder.u32(IFLA.MTU, change.mtu);
    if (change.alias !== undefined) builder.string(IFLA.IFALIAS, change.alias);
    if (change.name !== undefined) builder.string(IFLA.IFNAME, change.name);
    if (change.txQueueLength !== undefined) builder.u32(IFLA.TXQLEN, change.txQueueLength);
    if (change.master !== undefined) builder.u32(IFLA.MASTER, change.master);
    if (change.carrier !== undefined) builder.u8(IFLA.CARRIER, change.carrier ? 1 : 0);
    if (change.netnsFd !== undefined) builder.u32(IFLA.NET_NS_FD, change.netnsFd);
    if (change.addrGenMode !== undefined) {
      builder.nest(IFLA.AF_SPEC).nest(AF_INET6).u8(IFLA_INET6_ADDR_GEN_MODE, change.addrGenMode).end().end();
    }
    this.#socket.demand({ syscall: 'RTM_SETLINK', device: `ifindex ${ifindex}` });
  }

  /**
   * What the kernel says against a native XDP program on a device, which bpf(2) keeps to itself: the program is offered
   * once more, by this socket.
   *
   * @returns '' if nothing is said; undefined if it was taken this time, and taken off again at once
   */
  xdpRefusal(ifindex: number, programFd: number): string | undefined {
    const offer = (fd: number, flags: number) => {
      this.#socket.builder
        .begin(RTM_SETLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex))
        .nest(IFLA.XDP)
        .u32(IFLA_XDP_FD, fd >>> 0)
        .u32(IFLA_XDP_FLAGS, flags)
        .end();
      return this.#socket.request({ syscall: 'RTM_SETLINK(XDP)', device: `ifindex ${ifindex}` });
    };
    const { error, text } = offer(programFd, XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST);
    if (error < 0) return text ?? '';
    offer(-1, XDP_FLAGS_DRV_MODE);
    return undefined;
  }

  /** @throws ERR_KERNEL: ENODEV when it is gone already, EOPNOTSUPP when it is hardware */
  deleteLink(ifindex: number): void {
    this.#socket.builder.begin(RTM_DELLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex));
    this.#socket.demand({ syscall: 'RTM_DELLINK', device: `ifindex ${ifindex}` });
  }

  /** Has the device send without a queue of the kernel's in front of it. @throws ERR_KERNEL, ERR_PERMISSION */
  setNoqueue(ifindex: number): void {
    tc.setNoqueue(this.#socket, ifindex);
  }

  /** Whether it still is as {@link setNoqueue} had it. */
  isNoqueue(ifindex: number): boolean {
    return tc.isNoqueue(this.#socket, ifindex);
  }

  /** @returns false when clsact already was there */
  addClsact(ifindex: number): boolean {
    const added = tc.addClsact(this.#socket, ifindex);
    if (added) this.noteClsact(ifindex);
    return added;
  }

  /** As if this object had brought the clsact that is there. */
  noteClsact(ifindex: number): void {
    this.#clsacts.add(ifindex);
  }

  deleteClsact(ifindex: number): void {
    tc.deleteClsact(this.#socket, ifindex);
    this.#clsacts.delete(ifindex);
  }

  /** Takes clsact away if this object brought it; it stays if somebody has put a filter there since. */
  releaseClsact(ifindex: number): void {
    if (this.#clsacts.has(ifindex)) this.deleteEmptyClsact(ifindex);
  }

  deleteEmptyClsact(ifindex: number): void {
    const hooks = ['ingress', 'egress'] as const;
    if (hooks.every((where) => this.filters(ifindex, where).length === 0)) this.deleteClsact(ifindex);
  }

  /** Puts a direct-action program there, or replaces the one with this handle and priority. */
  addBpfFilter(
    ifindex: number,
    where: tc.Hook,
    programFd: number,
    name: string,
    handle: number,
    priority: number,
  ): void {
    tc.addBpfFilter(this.#socket, ifindex, where, programFd, { name, handle, priority });
  }

  bpfFilters(ifindex: number, where: tc.Hook): tc.BpfFilter[] {
    return tc.bpfFilters(this.#socket, ifindex, where);
  }

  /** Those of every kind. */
  filters(ifindex: number, where: tc.Hook): tc.Filter[] {
    return tc.filters(this.#socket, ifindex, where);
  }

  deleteBpfFilter(ifindex: number, where: tc.Hook, handle: number, priority: number): void {
    tc.deleteBpfFilter(this.#socket, ifindex, where, handle, priority);
  }

  close(): void {
    this.#socket.close();
  }

  #dump(type: number, header: Uint8Array, syscall: string): Message[] {
    return this.#socket.dump((builder) => builder.begin(type, NLM_F.REQUEST | NLM_F.DUMP, header), {
      syscall,
    });
  }
}

/** Link events as they happen. Never waits; whoever waits does so on `fd`. */
export class LinkMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /**
   * @param bufferBytes what the kernel may hold back for us: 4 MiB are some two thousand events
   * @throws ERR_KERNEL, ERR_PERMISSION
   */
  static open(shim: Shim, bufferBytes = 4 * 1024 * 1024): LinkMonitor {
    return new LinkMonitor(NetlinkSocket.listen(shim, NETLINK.ROUTE, RTMGRP_LINK | RTMGRP_TC, bufferBytes));
  }

  /**
   * Everything that has happened since the last call, in order. `overrun` says that events were lost
   * at that point: dump the links again. It has an errno if reading failed.
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

/** `undefined` for what is not about a link, or only about its role as a bridge port. */
export function linkEvent({ type, payload }: Message): LinkEvent | undefined {
  const ifindex = tc.disciplineOf(type, payload);
  if (ifindex !== undefined) return { kind: 'discipline', ifindex };
  if (type !== RTM_NEWLINK && type !== RTM_DELLINK) return undefined;
  const link = parseLink(payload);
  return link && { kind: type === RTM_NEWLINK ? 'new' : 'delete', link };
}

/** ifi_flags and ifi_change: only bits named in the change are touched. */
function flagsOf({ up, noArp, promiscuous }: LinkChange): [flags: number, change: number] {
  let flags = 0;
  let mask = 0;
  for (const [wanted, bit] of [
    [up, IFF.UP],
    [noArp, IFF.NOARP],
    [promiscuous, IFF.PROMISC],
  ] as const) {
    if (wanted === undefined) continue;
    mask |= bit;
    if (wanted) flags |= bit;
  }
  return [flags, mask];
}

function ifinfomsg(ifindex: number, flags = 0, change = 0): DataView {
  const view = new DataView(new ArrayBuffer(IFINFOMSG));
  view.setInt32(4, ifindex, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return view;
}
