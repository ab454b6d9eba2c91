/**
 * ethtool's netlink messages: their numbers, and what the kernel's replies contain. Pure functions over bytes; any thread.
 *
 * Formats: include/uapi/linux/ethtool_netlink.h (ethtool_netlink_generated.h since Linux 6.14), and
 * Documentation/networking/ethtool-netlink.rst. An attribute that a kernel or a driver does not report is absent.
 */
import { GENLMSGHDR } from './generic-netlink.ts';
import { Attributes, type Message, type MessageBuilder } from './netlink.ts';

/**
 * ETHTOOL_MSG_*, from the enumeration of user messages. Linux 5.10 has all of them but RSS_GET, which came with Linux 6.3
 * (commit 7112a04664bf), and RSS_SET, which came with Linux 6.17 together with the hashed fields (net/ethtool/rss.c).
 */
export const COMMANDS = {
  LINKMODES_GET: 4,
  LINKSTATE_GET: 6,
  FEATURES_GET: 11,
  FEATURES_SET: 12,
  RINGS_GET: 15,
  CHANNELS_GET: 17,
  CHANNELS_SET: 18,
  RSS_GET: 38,
  RSS_SET: 48,
} as const;
export type Command = keyof typeof COMMANDS;

/** The first attribute of each message is its header, which names the device. */
export const HEADER = 1;
export const HEADER_DEV_INDEX = 1;

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

/** Descriptors of one queue: the present number, and the largest one. */
export interface Rings {
  readonly rx: number;
  readonly tx: number;
  readonly maxRx: number;
  readonly maxTx: number;
}

export interface LinkModes {
  /** `undefined` if the driver does not know it: without a carrier most do not. */
  readonly speedMbps: number | undefined;
  readonly duplex: Duplex | undefined;
}
export type Duplex = 'half' | 'full';

export const CHANNEL = { maxRx: 2, maxTx: 3, maxCombined: 5, rx: 6, tx: 7, combined: 9 } as const;
const RING = { maxRx: 2, maxTx: 5, rx: 6, tx: 9 } as const;
const LINKMODES = { SPEED: 5, DUPLEX: 6 } as const;
const LINKSTATE_LINK = 2;
/** SPEED_UNKNOWN is -1, and drivers report 0 too: include/uapi/linux/ethtool.h. */
const SPEED_UNKNOWN = 0xffffffff;
const DUPLEXES: readonly Duplex[] = ['half', 'full'];
const DUPLEX_UNKNOWN = 0xff;

const FEATURES = { HW: 2, WANTED: 3, ACTIVE: 4 } as const;
const BITSET = { NOMASK: 1, BITS: 3 } as const;
const BITSET_BITS_BIT = 1;
const BIT = { NAME: 2, VALUE: 3 } as const;

export function parseChannels(reply: Attributes): Channels {
  return {
    combined: reply.u32(CHANNEL.combined),
    rx: reply.u32(CHANNEL.rx),
    tx: reply.u32(CHANNEL.tx),
    maxCombined: reply.u32(CHANNEL.maxCombined),
    maxRx: reply.u32(CHANNEL.maxRx),
    maxTx: reply.u32(CHANNEL.maxTx),
  };
}

export function parseFeatures(reply: Attributes): Features {
  return {
    active: bitNames(reply.nested(FEATURES.ACTIVE)),
    wanted: bitNames(reply.nested(FEATURES.WANTED)),
    changeable: bitNames(reply.nested(FEATURES.HW)),
  };
}

/** Adds the wanted features to a request. */
export function buildFeatures(request: MessageBuilder, change: ReadonlyMap<string, boolean>): void {
  request.nest(FEATURES.WANTED).nest(BITSET.BITS);
  for (const [name, on] of change) {
    request.nest(BITSET_BITS_BIT).string(BIT.NAME, name);
    if (on) request.bytes(BIT.VALUE, new Uint8Array(0));
    request.end();
  }
  request.end().end();
}

export function parseRings(reply: Attributes): Rings {
  return {
    rx: reply.u32(RING.rx),
    tx: reply.u32(RING.tx),
    maxRx: reply.u32(RING.maxRx),
    maxTx: reply.u32(RING.maxTx),
  };
}

export function parseLinkModes(reply: Attributes): LinkModes {
  const speed = reply.u32(LINKMODES.SPEED, SPEED_UNKNOWN);
  return {
    speedMbps: speed === SPEED_UNKNOWN || speed === 0 ? undefined : speed,
    duplex: DUPLEXES[reply.u8(LINKMODES.DUPLEX, DUPLEX_UNKNOWN)],
  };
}

/** `undefined` if the driver does not report a link. */
export function parseLinkState(reply: Attributes): boolean | undefined {
  return reply.has(LINKSTATE_LINK) ? reply.u8(LINKSTATE_LINK) !== 0 : undefined;
}

/** The ifindex in the message's header; 0 if the message is about no device. */
export function deviceOf({ payload }: Pick<Message, 'payload'>): number {
  return new Attributes(payload, GENLMSGHDR).nested(HEADER).u32(HEADER_DEV_INDEX);
}

/** Names of the bits that are set. A bitset with a mask lists all bits of the mask, one without lists only set bits. */
function bitNames(bitset: Attributes): ReadonlySet<string> {
  const listed = bitset.nested(BITSET.BITS).list.map(({ value }) => new Attributes(value));
  const set = bitset.has(BITSET.NOMASK) ? listed : listed.filter((bit) => bit.has(BIT.VALUE));
  return new Set(set.map((bit) => bit.string(BIT.NAME)));
}
