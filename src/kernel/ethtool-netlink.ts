/**
 * ethtool over generic netlink: channels, features, and a monitor of changes.
 *
 * A device is identified by its ifindex, which stays when its name changes. Each change takes RTNL, which the kernel may
 * hold for seconds while a VF comes or goes. Setting channels resets most devices: on mlx5 all queues stop for some tens
 * of milliseconds. Since Linux 5.7; formats: include/uapi/linux/ethtool_netlink.h.
 */
import { Errno, TwinpathError } from '../errors.ts';
import { type Family, findFamily, GENLMSGHDR, genlmsghdr } from './generic-netlink.ts';
import { Attributes, type Message, type MessageBuilder, NLM_F, parseMessages } from './netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from './netlink-socket.ts';
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

/** Sets of feature names, the kernel's own: netdev_features_strings in net/ethtool/common.c. */
export interface Features {
  readonly active: ReadonlySet<string>;
  /** Requested by users; the driver may not have followed. */
  readonly wanted: ReadonlySet<string>;
  readonly changeable: ReadonlySet<string>;
}

const FEATURES_GET = 11;
const FEATURES_SET = 12;
const CHANNELS_GET = 17;
const CHANNELS_SET = 18;
/** The same attribute in each message. */
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

  /** @throws ERR_KERNEL, ERR_PERMISSION. In a kernel without ethtool netlink the requests throw, and not this */
  static open(shim: Shim): EthtoolNetlink {
    const socket = NetlinkSocket.open(shim, NETLINK.GENERIC);
    try {
      return new EthtoolNetlink(socket, findFamily(socket, FAMILY));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** `undefined` if the device is gone or does not report channels. @throws ERR_KERNEL */
  channels(ifindex: number): Channels | undefined {
    const reply = this.#get(CHANNELS_GET, 'ETHTOOL_MSG_CHANNELS_GET', ifindex);
    if (reply === undefined) return undefined;
    return {
      combined: reply.u32(CHANNEL.combined),
      rx: reply.u32(CHANNEL.rx),
      tx: reply.u32(CHANNEL.tx),
      maxCombined: reply.u32(CHANNEL.maxCombined),
      maxRx: reply.u32(CHANNEL.maxRx),
      maxTx: reply.u32(CHANNEL.maxTx),
    };
  }

  /**
   * Changes those counts that the device supports.
   *
   * @returns 0 or a negative errno: EINVAL above the maximum, EOPNOTSUPP …
   * @throws ERR_KERNEL if the request cannot be sent
   */
  setChannels(ifindex: number, counts: ChannelCounts): number {
    const now = this.channels(ifindex);
    if (now === undefined) return Errno.EOPNOTSUPP;
    const request = this.#request(CHANNELS_SET, ifindex);
    // The kernel refuses a request that names a count that the device does not have (ethnl_set_channels, "out of range").
    if (now.maxRx > 0) request.u32(CHANNEL.rx, counts.rx);
    if (now.maxTx > 0) request.u32(CHANNEL.tx, counts.tx);
    if (now.maxCombined > 0) request.u32(CHANNEL.combined, counts.combined);
    return this.#socket.request(subject('ETHTOOL_MSG_CHANNELS_SET', ifindex)).error;
  }

  /** `undefined` if the device is gone. @throws ERR_KERNEL */
  features(ifindex: number): Features | undefined {
    const reply = this.#get(FEATURES_GET, 'ETHTOOL_MSG_FEATURES_GET', ifindex);
    if (reply === undefined) return undefined;
    return {
      active: bitNames(reply.nested(FEATURES.ACTIVE)),
      wanted: bitNames(reply.nested(FEATURES.WANTED)),
      changeable: bitNames(reply.nested(FEATURES.HW)),
    };
  }

  /** Requests features on or off. The driver may not follow: see {@link features}. @returns 0 or a negative errno */
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
    checkAnswer(answer, subject(syscall, ifindex));
    const reply = answer.replies[0];
    return reply && new Attributes(reply.payload, GENLMSGHDR);
  }

  #request(command: number, ifindex: number): MessageBuilder {
    if (this.#family === undefined) {
      throw new TwinpathError('ERR_KERNEL', {
        syscall: 'CTRL_CMD_GETFAMILY',
        device: FAMILY,
        detail: 'the kernel has no ethtool netlink',
        hint: 'This needs Linux 5.7 or later, built with CONFIG_ETHTOOL_NETLINK.',
      });
    }
    const { builder } = this.#socket;
    builder.begin(this.#family.id, NLM_F.REQUEST | NLM_F.ACK, genlmsghdr(command));
    return builder.nest(HEADER).u32(HEADER_DEV_INDEX, ifindex).end();
  }
}

/** Reports changes of settings. Never waits: the caller waits for `fd` to become readable. */
export class EthtoolMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /** In a kernel without ethtool netlink the monitor reports nothing. @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim, bufferBytes = 1024 * 1024): EthtoolMonitor {
    const requests = NetlinkSocket.open(shim, NETLINK.GENERIC);
    let group: number | undefined;
    try {
      group = findFamily(requests, FAMILY)?.groups.get('monitor');
    } finally {
      requests.close();
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
   * The ifindex of each device whose settings were changed since the last call, by this process or another. `undefined`
   * stands for lost messages: the settings of any device may have changed. The kernel reports channels and features in
   * all versions that have the monitor, and RSS since Linux 6.17.
   *
   * @throws ERR_KERNEL if the socket itself fails
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
        checkAnswer({ error: datagram, text: '' }, { syscall: 'recv(ethtool monitor)' });
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

/** The ifindex in the message's header; 0 if the message is about no device. */
export function deviceOf({ payload }: Message): number {
  return new Attributes(payload, GENLMSGHDR).nested(HEADER).u32(HEADER_DEV_INDEX);
}

/** Names of the bits that are set. A bitset with a mask lists all bits of the mask, one without lists only set bits. */
export function bitNames(bitset: Attributes): ReadonlySet<string> {
  const listed = bitset.nested(BITSET.BITS).list.map(({ value }) => new Attributes(value));
  const set = bitset.has(BITSET.NOMASK) ? listed : listed.filter((bit) => bit.has(BIT.VALUE));
  return new Set(set.map((bit) => bit.string(BIT.NAME)));
}

function subject(syscall: string, ifindex: number): { syscall: string; device: string } {
  return { syscall, device: `ifindex ${ifindex}` };
}
