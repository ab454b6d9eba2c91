/**
 * What a device's driver can do with XDP and AF_XDP: the generic netlink family `netdev`, since Linux 6.3. Takes RTNL.
 * Coordinator thread and command line. Formats: include/uapi/linux/netdev.h, Documentation/netlink/specs/netdev.yaml.
 */
import { Errno } from '../errors.ts';
import { type Family, findFamily, GENLMSGHDR, genlmsghdr } from './generic-netlink.ts';
import { Attributes, NLM_F } from './netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

export interface XdpAbilities {
  /** XDP programs run in the driver, and may redirect to an AF_XDP socket. */
  readonly native: boolean;
  /** AF_XDP sockets without a copy. */
  readonly zeroCopy: boolean;
  /** Packets longer than one buffer. */
  readonly multiBuffer: boolean;
  /** What a program can read of a received packet. Linux 6.8 and later report it. */
  readonly rxMetadata: readonly RxMetadata[];
  /** What an AF_XDP socket can ask for a packet that it sends. Linux 6.8 and later report it. */
  readonly txMetadata: readonly TxMetadata[];
}
export type RxMetadata = 'timestamp' | 'hash' | 'vlan tag';
export type TxMetadata = 'timestamp' | 'checksum' | 'launch time';

const NETDEV_CMD_DEV_GET = 1;
const DEV = {
  IFINDEX: 1,
  XDP_FEATURES: 3,
  ZC_MAX_SEGS: 4,
  XDP_RX_METADATA_FEATURES: 5,
  XSK_FEATURES: 6,
} as const;
/** NETDEV_XDP_ACT_* */
const BASIC = 1;
const REDIRECT = 2;
const XSK_ZEROCOPY = 8;
const RX_SG = 32;
/** NETDEV_XDP_RX_METADATA_* and NETDEV_XSK_FLAGS_TX_*, by bit. */
const RX_METADATA: readonly RxMetadata[] = ['timestamp', 'hash', 'vlan tag'];
const TX_METADATA: readonly TxMetadata[] = ['timestamp', 'checksum', 'launch time'];

export class NetdevNetlink {
  readonly #socket: NetlinkSocket;
  readonly #family: Family | undefined;

  private constructor(socket: NetlinkSocket, family: Family | undefined) {
    this.#socket = socket;
    this.#family = family;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim): NetdevNetlink {
    const socket = NetlinkSocket.open(shim, NETLINK.GENERIC);
    try {
      return new NetdevNetlink(socket, findFamily(socket, 'netdev'));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** `undefined` if the device is gone, or the kernel (before 6.3) does not report it. @throws ERR_KERNEL */
  xdpAbilities(ifindex: number): XdpAbilities | undefined {
    const device = this.#device(ifindex);
    return device && parseXdpAbilities(device);
  }

  /** Buffers of a packet in zero-copy; 0 if it is unknown (before Linux 6.6). @throws ERR_KERNEL */
  zeroCopySegments(ifindex: number): number {
    return this.#device(ifindex)?.u32(DEV.ZC_MAX_SEGS) ?? 0;
  }

  #device(ifindex: number): Attributes | undefined {
    if (this.#family === undefined) return undefined;
    const { builder } = this.#socket;
    builder
      .begin(this.#family.id, NLM_F.REQUEST | NLM_F.ACK, genlmsghdr(NETDEV_CMD_DEV_GET))
      .u32(DEV.IFINDEX, ifindex);
    const subject = { syscall: 'NETDEV_CMD_DEV_GET', device: `ifindex ${ifindex}` };
    const answer = this.#socket.request(subject);
    if (answer.error === Errno.ENODEV) return undefined;
    checkAnswer(answer, subject);
    const reply = answer.replies[0];
    return reply && new Attributes(reply.payload, GENLMSGHDR);
  }

  close(): void {
    this.#socket.close();
  }
}

/** The masks have 64 bits, of which the kernel uses the lowest few. */
export function parseXdpAbilities(reply: Attributes): XdpAbilities {
  const xdp = reply.u32(DEV.XDP_FEATURES);
  const has = (bits: number): boolean => (xdp & bits) === bits;
  return {
    native: has(BASIC | REDIRECT),
    zeroCopy: has(XSK_ZEROCOPY),
    multiBuffer: has(RX_SG),
    rxMetadata: named(RX_METADATA, reply.u32(DEV.XDP_RX_METADATA_FEATURES)),
    txMetadata: named(TX_METADATA, reply.u32(DEV.XSK_FEATURES)),
  };
}

function named<T>(names: readonly T[], bits: number): T[] {
  return names.filter((_, bit) => (bits & (1 << bit)) !== 0);
}
