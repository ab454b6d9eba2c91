/**
 * What a lab asks of the kernel while packets flow: a veth pair that appears, a bridge port's rules, a
 * forwarding entry that moves. By netlink rather than iproute2, because the instant must be known and
 * a flapping device must flap faster than processes start.
 *
 * One object belongs to one thread and to the namespace that thread was in at `open`. Every call waits
 * for RTNL. Numbers: include/uapi/linux/{if_link,neighbour}.h.
 */
import { Errno } from '../errors.ts';
import { IFINFOMSG, IFLA, macBytes } from '../kernel/link.ts';
import { MessageBuilder, NLM_F } from '../kernel/netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from '../kernel/netlink-socket.ts';
import type { Shim } from '../kernel/shim.ts';

const NLMSGHDR = 16;
const RTM_NEWLINK = 16;
const RTM_NEWNEIGH = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const VETH_INFO_PEER = 1;
const NDA_LLADDR = 2;
const AF_BRIDGE = 7;
/** What `bridge fdb … static` says: NUD_NOARP | NUD_REACHABLE. */
const NUD_STATIC = 0x40 | 0x02;
const NTF_MASTER = 0x04;

/** IFLA_BRPORT_*, those a lab sets. */
const PORT = { learning: 8, flood: 9, multicastFlood: 27, broadcastFlood: 30, isolated: 33 } as const;

export type PortRules = { readonly [rule in keyof typeof PORT]?: boolean };

export interface VethEnd {
  readonly name: string;
  /** 0 lets the kernel choose. */
  readonly ifindex?: number;
  readonly address?: string;
  /** Where the end appears; absent for this object's own namespace. */
  readonly netnsFd?: number;
}

export class BridgeNetlink {
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim): BridgeNetlink {
    return new BridgeNetlink(NetlinkSocket.open(shim, NETLINK.ROUTE));
  }

  /**
   * Makes a pair, both ends down. Queue counts are given explicitly: veth then starts with all of them
   * active instead of one.
   *
   * @throws ERR_KERNEL (EEXIST: a name is taken)
   */
  addVeth(near: VethEnd, far: VethEnd, { queues, mtu }: { queues: number; mtu: number }): void {
    const describe = (message: MessageBuilder, { name, address, netnsFd }: VethEnd): MessageBuilder => {
      message.string(IFLA.IFNAME, name).u32(IFLA.MTU, mtu);
      message.u32(IFLA.NUM_TX_QUEUES, queues).u32(IFLA.NUM_RX_QUEUES, queues);
      if (address !== undefined) message.bytes(IFLA.ADDRESS, macBytes(address));
      if (netnsFd !== undefined) message.u32(IFLA.NET_NS_FD, netnsFd);
      return message;
    };
    // The far end is one attribute that holds what a request for it alone would hold.
    const peer = describe(new MessageBuilder().begin(RTM_NEWLINK, 0, ifinfomsg(far.ifindex)), far);
    const { builder } = this.#socket;
    builder.begin(
      RTM_NEWLINK,
      NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL,
      ifinfomsg(near.ifindex),
    );
    describe(builder, near);
    builder.nest(IFLA.LINKINFO).string(IFLA_INFO_KIND, 'veth').nest(IFLA_INFO_DATA);
    builder.bytes(VETH_INFO_PEER, peer.finish(0).slice(NLMSGHDR)).end().end();
    this.#socket.requestOrThrow({ syscall: 'RTM_NEWLINK', device: near.name });
  }

  /** Makes a device a port of a bridge, under rules; absent rules keep the kernel's default. */
  addPort(ifindex: number, bridge: number, rules: PortRules): void {
    const { builder } = this.#socket;
    const device = `ifindex ${ifindex}`;
    builder.begin(RTM_NEWLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex)).u32(IFLA.MASTER, bridge);
    this.#socket.requestOrThrow({ syscall: 'RTM_NEWLINK', device });

    builder.begin(RTM_NEWLINK, NLM_F.REQUEST | NLM_F.ACK, ifinfomsg(ifindex));
    builder.nest(IFLA.LINKINFO).string(IFLA_INFO_SLAVE_KIND, 'bridge').nest(IFLA_INFO_SLAVE_DATA);
    for (const [rule, attribute] of Object.entries(PORT)) {
      const wanted = rules[rule as keyof typeof PORT];
      if (wanted !== undefined) builder.u8(attribute, Number(wanted));
    }
    builder.end().end();
    this.#socket.requestOrThrow({ syscall: 'RTM_NEWLINK', device });
  }

  /**
   * Points the bridge's static entry for a MAC at a port. Where there is an entry it changes in one
   * store (net/bridge/br_fdb.c `fdb_add_entry`): each packet sees the old port or the new one.
   *
   * @returns false when the port does not forward yet: the kernel then refuses with EPERM
   * @throws ERR_KERNEL
   */
  forward(mac: string, port: number): boolean {
    const header = new DataView(new ArrayBuffer(12)); // struct ndmsg
    header.setUint8(0, AF_BRIDGE);
    header.setInt32(4, port, true);
    header.setUint16(8, NUD_STATIC, true);
    header.setUint8(10, NTF_MASTER);
    const flags = NLM_F.REQUEST | NLM_F.ACK | NLM_F.CREATE | NLM_F.REPLACE;
    this.#socket.builder.begin(RTM_NEWNEIGH, flags, header).bytes(NDA_LLADDR, macBytes(mac));
    const subject = { syscall: 'RTM_NEWNEIGH', device: `ifindex ${port}` };
    const answer = this.#socket.request(subject);
    if (answer.error === Errno.EPERM) return false;
    checkAnswer(answer, subject);
    return true;
  }

  close(): void {
    this.#socket.close();
  }
}

function ifinfomsg(ifindex = 0): DataView {
  const view = new DataView(new ArrayBuffer(IFINFOMSG));
  view.setInt32(4, ifindex, true);
  return view;
}
