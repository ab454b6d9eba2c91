/**
 * ethtool over generic netlink: channels, features, rings, and the state of the link. ethtool-rss.ts has the rest.
 *
 * A device is identified by its ifindex, which stays when its name changes. Requests of both kinds take RTNL, which the
 * kernel may hold for seconds while a VF comes or goes: coordinator thread and command line only. Setting channels resets
 * most devices: on mlx5 all queues stop for some tens of milliseconds. Since Linux 5.7.
 */
import { Errno, TwinpathError } from '../errors.ts';
import {
  buildFeatures,
  CHANNEL,
  type ChannelCounts,
  type Channels,
  COMMANDS,
  type Command,
  type Features,
  HEADER,
  HEADER_DEV_INDEX,
  type LinkModes,
  parseChannels,
  parseFeatures,
  parseLinkModes,
  parseLinkState,
  parseRings,
  type Rings,
} from './ethtool-messages.ts';
import { type Family, findFamily, GENLMSGHDR, genlmsghdr } from './generic-netlink.ts';
import { Attributes, type MessageBuilder, NLM_F } from './netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket, type Subject } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

export type { ChannelCounts } from './ethtool-messages.ts';

export const ETHTOOL_FAMILY = 'ethtool';

export class EthtoolNetlink {
  /** For requests that this kernel has as an ioctl only. */
  readonly shim: Shim;
  readonly #socket: NetlinkSocket;
  readonly #family: Family | undefined;

  private constructor(shim: Shim, socket: NetlinkSocket, family: Family | undefined) {
    this.shim = shim;
    this.#socket = socket;
    this.#family = family;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION. In a kernel without ethtool netlink the requests throw, and not this */
  static open(shim: Shim): EthtoolNetlink {
    const socket = NetlinkSocket.open(shim, NETLINK.GENERIC);
    try {
      return new EthtoolNetlink(shim, socket, findFamily(socket, ETHTOOL_FAMILY));
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  /** Whether this kernel has the message. */
  has(command: Command): boolean {
    return this.#family?.commands.has(COMMANDS[command]) === true;
  }

  /** `undefined` if the device is gone or does not report channels. @throws ERR_KERNEL */
  channels(ifindex: number): Channels | undefined {
    return this.#read('CHANNELS_GET', ifindex, parseChannels);
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
    return this.set('CHANNELS_SET', ifindex, (request) => {
      // The kernel refuses a request that names a count that the device does not have (ethnl_set_channels, "out of range").
      if (now.maxRx > 0) request.u32(CHANNEL.rx, counts.rx);
      if (now.maxTx > 0) request.u32(CHANNEL.tx, counts.tx);
      if (now.maxCombined > 0) request.u32(CHANNEL.combined, counts.combined);
    });
  }

  /** `undefined` if the device is gone. @throws ERR_KERNEL */
  features(ifindex: number): Features | undefined {
    return this.#read('FEATURES_GET', ifindex, parseFeatures);
  }

  /** Requests features on or off. The driver may not follow: see {@link features}. @returns 0 or a negative errno */
  setFeatures(ifindex: number, change: ReadonlyMap<string, boolean>): number {
    return this.set('FEATURES_SET', ifindex, (request) => buildFeatures(request, change));
  }

  /** `undefined` if the device is gone or has no rings to report. @throws ERR_KERNEL */
  rings(ifindex: number): Rings | undefined {
    return this.#read('RINGS_GET', ifindex, parseRings);
  }

  /** Speed and duplex; `undefined` if the device is gone or reports neither. @throws ERR_KERNEL */
  linkModes(ifindex: number): LinkModes | undefined {
    return this.#read('LINKMODES_GET', ifindex, parseLinkModes);
  }

  /** Whether the driver has a link; `undefined` if the device is gone or does not report it. @throws ERR_KERNEL */
  linkState(ifindex: number): boolean | undefined {
    return this.#read('LINKSTATE_GET', ifindex, parseLinkState);
  }

  /** The attributes of the reply, or a negative errno. @throws ERR_KERNEL if the request cannot be sent */
  get(command: Command, ifindex: number): Attributes | number {
    this.#request(command, ifindex);
    const { error, replies } = this.#socket.request(subjectOf(command, ifindex));
    if (error < 0) return error;
    return new Attributes(replies[0]?.payload ?? new Uint8Array(0), GENLMSGHDR);
  }

  /** 0 or a negative errno. @throws ERR_KERNEL if the request cannot be sent */
  set(command: Command, ifindex: number, build: (request: MessageBuilder) => void): number {
    build(this.#request(command, ifindex));
    return this.#socket.request(subjectOf(command, ifindex)).error;
  }

  close(): void {
    this.#socket.close();
  }

  #read<T>(command: Command, ifindex: number, parse: (reply: Attributes) => T): T | undefined {
    const reply = this.get(command, ifindex);
    if (reply === Errno.ENODEV || reply === Errno.EOPNOTSUPP) return undefined;
    if (typeof reply !== 'number') return parse(reply);
    checkAnswer({ error: reply, text: '' }, subjectOf(command, ifindex));
    return undefined;
  }

  #request(command: Command, ifindex: number): MessageBuilder {
    if (this.#family === undefined) {
      throw new TwinpathError('ERR_KERNEL', {
        syscall: 'CTRL_CMD_GETFAMILY',
        device: ETHTOOL_FAMILY,
        detail: 'the kernel has no ethtool netlink',
        hint: 'This needs Linux 5.7 or later, built with CONFIG_ETHTOOL_NETLINK.',
      });
    }
    const { builder } = this.#socket;
    builder.begin(this.#family.id, NLM_F.REQUEST | NLM_F.ACK, genlmsghdr(COMMANDS[command]));
    return builder.nest(HEADER).u32(HEADER_DEV_INDEX, ifindex).end();
  }
}

function subjectOf(command: Command, ifindex: number): Subject {
  return { syscall: `ETHTOOL_MSG_${command}`, device: `ifindex ${ifindex}` };
}
