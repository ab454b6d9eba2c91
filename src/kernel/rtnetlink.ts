/**
 * rtnetlink: reads and changes links, addresses, default routes and tc filters.
 *
 * An object belongs to one thread, and to the network namespace that the thread was in at `open`. Calls are synchronous.
 * Calls that change something take RTNL, which the kernel may hold for seconds while the host adds or removes a VF: use
 * them only on the coordinator thread and in the command line.
 *
 * An answer may be stale when it arrives: link-monitor.ts reports changes. Identify links by ifindex; names change.
 */
import { Errno } from '../errors.ts';
import { macBytes } from '../net/mac.ts';
import { IFF, IFINFOMSG, IFLA, type Link, parseCounters, parseLink } from './link.ts';
import { type Message, type MessageBuilder, NLM_F } from './netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from './netlink-socket.ts';
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

export { ARPHRD_ETHER, IFF, type Link } from './link.ts';
export type { InterfaceAddress } from './routes.ts';

/** Properties that {@link RtNetlink.setLink} changes; absent ones stay. */
export interface LinkChange {
  readonly up?: boolean;
  readonly mtu?: number;
  readonly name?: string;
  /** A text for people; '' removes it. */
  readonly alias?: string;
  readonly txQueueLength?: number;
  /** IPv6 address generation: 0 is EUI-64, 1 is none. */
  readonly addrGenMode?: number;
  readonly noArp?: boolean;
  /** The user's own request for it, not the count in {@link Link}.promiscuity. */
  readonly promiscuous?: boolean;
  /** Moves the device into that namespace; its ifindex may change on the way. */
  readonly netnsFd?: number;
  readonly address?: string;
  /** ifindex of the device above, or 0. */
  readonly master?: number;
  readonly carrier?: boolean;
}

const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETNEXTHOP = 106;
/**
 * A bit of a dump's mask that only bridge ports care about. With any mask the kernel allocates room for the largest link
 * (rtnl_calcit). Without a mask it silently omits a link whose message is longer than 32 KiB.
 */
const RTEXT_FILTER_MRP = 1 << 4;

const IFLA_INET6_ADDR_GEN_MODE = 8;
/** include/uapi/linux/if_link.h */
const IFLA_XDP_FD = 1;
const IFLA_XDP_FLAGS = 3;
const XDP_FLAGS_UPDATE_IF_NOEXIST = 1;
const XDP_FLAGS_DRV_MODE = 4;

export class RtNetlink {
  readonly #socket: NetlinkSocket;
  /** Links whose clsact this object added. */
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
    // A dump that was still interrupted at the last attempt may list a link twice: the later entry counts.
    const found = new Map<number, Link>();
    for (const link of replies.map(({ payload }) => parseLink(payload)))
      if (link) found.set(link.ifindex, link);
    return [...found.values()].sort((a, b) => a.ifindex - b.ifindex);
  }

  /** By ifindex, name or alternative name; `undefined` if there is no such link. */
  link(nameOrIndex: string | number): Link | undefined {
    const replies = this.#getLink(nameOrIndex);
    return replies.map(({ payload }) => parseLink(payload)).find((link) => link !== undefined);
  }

  /** The kernel's statistics of a device, by name; `undefined` if it is gone. @throws ERR_KERNEL */
  counters(ifindex: number): Record<string, number> | undefined {
    const [reply] = this.#getLink(ifindex);
    return reply && parseCounters(reply.payload);
  }

  #getLink(nameOrIndex: string | number): Message[] {
    const { builder } = this.#socket;
    builder.begin(
      RTM_GETLINK,
      NLM_F.REQUEST | NLM_F.ACK,
      ifinfomsg(typeof nameOrIndex === 'number' ? nameOrIndex : 0),
    );
    if (typeof nameOrIndex === 'string') {
      // A device name has at most 15 bytes, so a longer name can only be an alternative name.
      if (Buffer.byteLength(nameOrIndex) > 127) return [];
      if (Buffer.byteLength(nameOrIndex) > 15) builder.string(IFLA.ALT_IFNAME, nameOrIndex);
      else builder.string(IFLA.IFNAME, nameOrIndex);
    }
    const subject = { syscall: 'RTM_GETLINK', device: String(nameOrIndex) };
    const answer = this.#socket.request(subject);
    if (answer.error === Errno.ENODEV) return [];
    checkAnswer(answer, subject);
    return answer.replies;
  }

  /** IPv4 and IPv6 addresses of all links. */
  addresses(): InterfaceAddress[] {
    const replies = this.#dump(RTM_GETADDR, new Uint8Array(IFADDRMSG), 'RTM_GETADDR');
    return replies.map(({ payload }) => parseAddress(payload)).filter((address) => address !== undefined);
  }

  /** ifindexes of the default routes of the main table, including each hop of a multipath route. */
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
        // With sysctl nexthop_compat_mode off, a route names only its nexthop object.
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
    this.#socket.requestOrThrow({ syscall: 'RTM_SETLINK', device: `ifindex ${ifindex}` });
  }

  /**
   * Why the kernel refuses a native XDP program on a device. bpf(2) gives no reason, so this attaches the program once
   * more by netlink.
   *
   * @returns '' if the kernel gives no reason here either; undefined if it accepted the program this time, which is then
   *   detached at once
   */
  xdpRefusal(ifindex: number, programFd: number): string | undefined {
    const attach = (fd: number, flags: number) => {
      this.#socket.builder
        .begin(RTM_SETLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex))
        .nest(IFLA.XDP)
        .u32(IFLA_XDP_FD, fd >>> 0)
        .u32(IFLA_XDP_FLAGS, flags)
        .end();
      return this.#socket.request({ syscall: 'RTM_SETLINK(XDP)', device: `ifindex ${ifindex}` });
    };
    const { error, text } = attach(programFd, XDP_FLAGS_DRV_MODE | XDP_FLAGS_UPDATE_IF_NOEXIST);
    if (error < 0) return text ?? '';
    attach(-1, XDP_FLAGS_DRV_MODE);
    return undefined;
  }

  /** @throws ERR_KERNEL: ENODEV if it is gone already, EOPNOTSUPP if it is hardware */
  deleteLink(ifindex: number): void {
    this.#socket.builder.begin(RTM_DELLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex));
    this.#socket.requestOrThrow({ syscall: 'RTM_DELLINK', device: `ifindex ${ifindex}` });
  }

  /** See {@link tc.setNoqueue}. @throws ERR_KERNEL, ERR_PERMISSION */
  setNoqueue(ifindex: number): void {
    tc.setNoqueue(this.#socket, ifindex);
  }

  /** Whether the device still has no queue: see {@link setNoqueue}. */
  isNoqueue(ifindex: number): boolean {
    return tc.isNoqueue(this.#socket, ifindex);
  }

  /** @returns false if the device already had clsact */
  addClsact(ifindex: number): boolean {
    const added = tc.addClsact(this.#socket, ifindex);
    if (added) this.noteClsact(ifindex);
    return added;
  }

  /** Treats the device's clsact as added by this object. */
  noteClsact(ifindex: number): void {
    this.#clsacts.add(ifindex);
  }

  deleteClsact(ifindex: number): void {
    tc.deleteClsact(this.#socket, ifindex);
    this.#clsacts.delete(ifindex);
  }

  /** Deletes clsact if this object added it and it has no filters. */
  releaseClsact(ifindex: number): void {
    if (this.#clsacts.has(ifindex)) this.deleteEmptyClsact(ifindex);
  }

  deleteEmptyClsact(ifindex: number): void {
    const hooks = ['ingress', 'egress'] as const;
    if (hooks.every((where) => this.filters(ifindex, where).length === 0)) this.deleteClsact(ifindex);
  }

  /** Adds a direct-action program, or replaces the one with this handle and priority. */
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

  /** Filters of every kind. */
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

/** ifi_flags and ifi_change: the kernel changes only the bits of the second. */
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
