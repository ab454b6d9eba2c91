/**
 * ethtool over generic netlink: channels, features, and the monitor that tells who changed which.
 *
 * Devices are named by ifindex, which stays when a name changes. Each change takes RTNL, which may be held for
 * seconds while a VF comes or goes. Setting channels resets most devices: on mlx5 all queues stop for some tens of
 * milliseconds. Since Linux 5.7; formats: include/uapi/linux/ethtool_netlink.h.
 */
import { Errno, TwinpathError } from '../errors.ts';
import { type Family, findFamily, GENLMSGHDR, genlmsghdr } from './generic-netlink.ts';
import { Attributes, type Message, type MessageBuilder, NLM_F, parseMessages } from './netlink.ts';
import { accept, NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

export interface ChannelCounts {
  readonly combined: number;
  readonly rx: number;
  readonly tx: number;
}

export interface Channels extends ChannelCounts {
  readonly maxCombined: number;
  readonly maxRx: number;
  readonly maxTx: number;
}

/** Feature names as `ethtool -k` knows them inside the kernel: netdev_features_strings in net/ethtool/common.c. */
export interface Features {
  /** What the device does now. */
  readonly active: ReadonlySet<string>;
  /** What was asked of it; the driver may not follow. */
  readonly wanted: ReadonlySet<string>;
  /** What can be changed at all. */
  readonly changeable: ReadonlySet<string>;
}

const FEATURES_GET = 11;
const FEATURES_SET = 12;
const CHANNELS_GET = 17;
const CHANNELS_SET = 18;
/** The same in each message. */
const HEADER = 1;
const HEADER_DEV_INDEX = 1;
const CHANNEL = { maxRx: 2, maxTx: 3, maxCombined: 5, rx: 6, tx: 7, combined: 9 } as const;
const FEATURES = { HW: 2, WANTED: 3, ACTIVE: 4 } as const;
const BITSET = { NOMASK: 1, BITS: 3 } as const;
const BITSET_BITS_BIT = 1;
const BIT = { NAME: 2, VALUE: 3 } as const;

const FAMILY = 'ethtool';

export class EthtoolNetlink {
  readonly #socket: NetlinkSocket;
  readonly #family: Family | undefined;

  private constructor(socket: NetlinkSocket, family: Family | undefined) {
    this.#socket = socket;
    this.#family = family;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION; not if the kernel has no ethtool netlink: then the requests do */
  static open(shim: Shim): EthtoolNetlink {
    const socket = NetlinkSocket.open(shim, NETLINK.GENERIC);
    try {
      return new EthtoolNetlink(socket, findFamily(socket, FAMILY));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** `undefined` when the device is gone or has no channels to speak of. @throws ERR_KERNEL */
  channels(ifindex: number): Channels | undefined {
    const reply = this.#get(CHANNELS_GET, 'ETHTOOL_MSG_CHANNELS_GET', ifindex);
    if (reply === undefined) return undefined;
    const { rx, tx, combined, maxRx, maxTx, maxCombined } = CHANNEL;
    return {
      ...{ combined: reply.u32(combined), rx: reply.u32(rx), tx: reply.u32(tx) },
      ...{ maxCombined: reply.u32(maxCombined), maxRx: reply.u32(maxRx), maxTx: reply.u32(maxTx) },
    };
  }

  /**
   * Changes the counts that the device has. 0 or a negative errno: EINVAL above the maximum, EOPNOTSUPP …
   *
   * @throws ERR_KERNEL if the kernel cannot be asked
   */
  setChannels(ifindex: number, counts: ChannelCounts): number {
    const now = this.channels(ifindex);
    if (now === undefined) return Errno.EOPNOTSUPP;
    const request = this.#request(CHANNELS_SET, ifindex);
    // A count that a device does not have may not be named (ethnl_set_channels, "out of range").
    if (now.maxRx > 0) request.u32(CHANNEL.rx, counts.rx);
    if (now.maxTx > 0) request.u32(CHANNEL.tx, counts.tx);
    if (now.maxCombined > 0) request.u32(CHANNEL.combined, counts.combined);
    return this.#socket.request(subject('ETHTOOL_MSG_CHANNELS_SET', ifindex)).error;
  }

  /** `undefined` when the device is gone. @throws ERR_KERNEL */
  features(ifindex: number): Features | undefined {
    const reply = this.#get(FEATURES_GET, 'ETHTOOL_MSG_FEATURES_GET', ifindex);
    if (reply === undefined) return undefined;
    return {
      active: bitNames(reply.nested(FEATURES.ACTIVE)),
      wanted: bitNames(reply.nested(FEATURES.WANTED)),
      changeable: bitNames(reply.nested(FEATURES.HW)),
    };
  }

  /** Asks for features, on or off. 0 or a negative errno; whether the driver follows is for `features` to say. */
  setFeatures(ifindex: number, change: ReadonlyMap<string, boolean>): number {
    const request = this.#request(FEATURES_SET, ifindex).nest(FEATURES.WANTED).nest(BITSET.BITS);
    for (const [name, on] of change) {
      request.nest(BITSET_BITS_BIT).string(BIT.NAME, name);
      if (on) request.bytes(BIT.VALUE, new Uint8Array(0));
      request.end();
    }
    request.end().end();
    return this.#socket.request(subject('ETHTOOL_MSG_FEATURES_SET', ifindex)).error;
  }

  close(): void {
    this.#socket.close();
  }

  #get(command: number, syscall: string, ifindex: number): Attributes | undefined {
    this.#request(command, ifindex);
    const answer = this.#socket.request(subject(syscall, ifindex));
    if (answer.error === Errno.ENODEV || answer.error === Errno.EOPNOTSUPP) return undefined;
    accept(answer, subject(syscall, ifindex));
    const reply = answer.replies[0];
    return reply && new Attributes(reply.payload, GENLMSGHDR);
  }

  #request(command: number, ifindex: number): MessageBuilder {
    if (this.#family === undefined) {
      throw new TwinpathError('ERR_KERNEL', {
        syscall: 'CTRL_CMD_GETFAMILY',
        device: FAMILY,
        detail: 'the kernel has no ethtool netlink',
        hint: 'It takes Linux 5.7 or later, built with CONFIG_ETHTOOL_NETLINK.',
      });
    }
    const { builder } = this.#socket;
    builder.begin(this.#family.id, NLM_F.REQUEST | NLM_F.ACK, genlmsghdr(command));
    return builder.nest(HEADER).u32(HEADER_DEV_INDEX, ifindex).end();
  }
}

/** Changes of settings as they happen. Never waits; whoever waits does so on `fd`. */
export class EthtoolMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /** Silent where the kernel has no ethtool netlink. @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim, bufferBytes = 1024 * 1024): EthtoolMonitor {
    const asking = NetlinkSocket.open(shim, NETLINK.GENERIC);
    let group: number | undefined;
    try {
      group = findFamily(asking, FAMILY)?.groups.get('monitor');
    } finally {
      asking.close();
    }
    const socket = NetlinkSocket.listen(shim, NETLINK.GENERIC, 0, bufferBytes);
    try {
      if (group !== undefined) socket.join(group);
    } catch (error) {
      socket.close();
      throw error;
    }
    return new EthtoolMonitor(socket);
  }

  /**
   * Whose settings were changed since the last call, by anybody, us included: an ifindex for each message. Undefined:
   * messages were lost, and any device may be meant. The kernel tells of channels and features on every version that
   * has the monitor, of RSS since Linux 6.17.
   *
   * @throws ERR_KERNEL when the socket itself fails
   */
  receive(): (number | undefined)[] {
    const events: (number | undefined)[] = [];
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === Errno.EAGAIN) return events;
      if (datagram === Errno.EINTR) continue;
      if (datagram === Errno.ENOBUFS) {
        events.push(undefined);
        continue;
      }
      if (typeof datagram === 'number') {
        accept({ error: datagram, text: '' }, { syscall: 'recv(ethtool monitor)' });
        continue;
      }
      for (const message of parseMessages(datagram)) {
        const ifindex = deviceOf(message);
        if (ifindex !== 0) events.push(ifindex);
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** The ifindex in the header that every message has; 0 if it is about no device. */
export function deviceOf({ payload }: Message): number {
  return new Attributes(payload, GENLMSGHDR).nested(HEADER).u32(HEADER_DEV_INDEX);
}

/** Names of the bits that are set. With a mask all bits of it are listed; without one, those that are set. */
export function bitNames(bitset: Attributes): ReadonlySet<string> {
  const listed = bitset.nested(BITSET.BITS).list.map(({ value }) => new Attributes(value));
  const set = bitset.has(BITSET.NOMASK) ? listed : listed.filter((bit) => bit.has(BIT.VALUE));
  return new Set(set.map((bit) => bit.string(BIT.NAME)));
}

function subject(syscall: string, ifindex: number): { syscall: string; device: string } {
  return { syscall, device: `ifindex ${ifindex}` };
}
