/**
 * The devices of a lab: veth pairs, ports of a bridge and their rules, forwarding entries, offloads. By netlink rather than
 * iproute2, because the time of a change must be known, and because a process starts too slowly for a device that flaps.
 *
 * A BridgeNetlink belongs to one thread and to the namespace in which that thread called `open`. Every call waits for RTNL.
 * Numbers: include/uapi/linux/{if_link,neighbour}.h.
 */
import { check, Errno } from '../errors.ts';
import { IFINFOMSG, IFLA } from '../kernel/link.ts';
import { MessageBuilder, NLM_F } from '../kernel/netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from '../kernel/netlink-socket.ts';
import { addressOf, type Shim } from '../kernel/shim.ts';
import { macBytes } from '../net/mac.ts';

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
/** As `bridge fdb … static` sets it: NUD_NOARP | NUD_REACHABLE. */
const NUD_STATIC = 0x40 | 0x02;
const NTF_MASTER = 0x04;

/** IFLA_BRPORT_*. */
const PORT = { learning: 8, flood: 9, multicastFlood: 27, broadcastFlood: 30, isolated: 33 } as const;

export type PortRules = { readonly [rule in keyof typeof PORT]?: boolean };

export interface VethEnd {
  readonly name: string;
  /** 0 lets the kernel choose. */
  readonly ifindex?: number;
  readonly address?: string;
  /** Namespace of the end. Default: that of this object. */
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
   * Creates a pair, both ends down. With explicit queue counts a veth starts with all queues active instead of one.
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
    // The far end is one attribute, with the contents of a request for that end alone.
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

  /** Makes a device a port of a bridge, with rules. An absent rule keeps the kernel's default. @throws ERR_KERNEL */
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
   * Points the bridge's static entry for a MAC at a port. The kernel changes an existing entry in one store
   * (net/bridge/br_fdb.c `fdb_add_entry`): each packet follows the old entry or the new one.
   *
   * @returns false if the port does not forward yet; the kernel then refuses with EPERM
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

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCETHTOOL = 0x8946;
/** TX checksum last: the kernel drops scatter-gather and segmentation with it, and returns EINVAL for neither. */
const OFFLOADS = { GRO: 0x2c, GSO: 0x24, TSO: 0x1f, SG: 0x19, TXCSUM: 0x17 } as const;

/**
 * Switches a veth's offloads off, so that its sender finishes checksums and segments. A port in user space sees the bytes,
 * and between two kernel stacks veth leaves both unfinished.
 *
 * The device is in the namespace of the calling thread. Missing features are not an error. By ioctl rather than ethtool
 * netlink: it is one call on every kernel. @throws ERR_KERNEL
 */
export function switchOffloadsOff(shim: Shim, device: string): void {
  const socket = check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)');
  try {
    const value = new Uint32Array(2); // struct ethtool_value: command, data
    const request = new DataView(new ArrayBuffer(40)); // struct ifreq: name[16], pointer
    for (let i = 0; i < Math.min(device.length, 15); i++) request.setUint8(i, device.charCodeAt(i));
    request.setBigUint64(16, BigInt(addressOf(value)), true);
    for (const command of Object.values(OFFLOADS)) {
      value[0] = command;
      value[1] = 0;
      const result = shim.ioctl(socket, SIOCETHTOOL, request);
      if (result !== Errno.EOPNOTSUPP) check(result, 'ioctl(SIOCETHTOOL)', { device });
    }
  } finally {
    shim.close(socket);
  }
}
