/**
 * A device's receive-side scaling: key, redirection table, hash function, and which fields are hashed.
 *
 * By ioctl, as `ethtool -x` and `-X` do: netlink can set these only since Linux 6.17
 * (ETHTOOL_MSG_RSS_SET), the ioctl on every kernel. Each call takes RTNL like those of ethtool.ts. A
 * driver may stop its queues for a moment while it changes them. Formats: include/uapi/linux/ethtool.h;
 * what the kernel makes of them: net/ethtool/ioctl.c.
 *
 * NB: entries of the table are words here, 32 bits each, and the key follows them in the same structure.
 */
import { ethtool } from './ethtool.ts';
import type { Shim } from './shim.ts';

export interface Rss {
  /** 40 bytes on most devices, 52 on some. */
  readonly key: Uint8Array;
  /** Receive queue numbers; as many as the device has entries. */
  readonly table: number[];
  /** One bit: {@link HASH_TOEPLITZ}, or XOR (2), or CRC32 (4). */
  readonly hashFunction: number;
  /** What is done to the input before it is hashed; 0 nothing, also on kernels before 6.8. */
  readonly inputTransform: number;
}

/** What to change; what is not given stays as it is. */
export interface RssChange {
  readonly key?: Uint8Array;
  /** 'default': the kernel's own table, which follows the number of channels from then on. */
  readonly table?: readonly number[] | 'default';
  readonly hashFunction?: number;
  readonly inputTransform?: number;
}

/** ETH_RSS_HASH_TOP. */
export const HASH_TOEPLITZ = 1;

/** Kinds of traffic whose hashed fields can be told apart: TCP_V4_FLOW and so on. */
export const Flow = { TCP4: 1, UDP4: 2, TCP6: 5, UDP6: 6 } as const;
export type FlowType = (typeof Flow)[keyof typeof Flow];

/** Addresses and ports: RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1 and RXH_L4_B_2_3. */
export const ADDRESSES_AND_PORTS = 0xf0;

const ETHTOOL_GRXFH = 0x29;
const ETHTOOL_SRXFH = 0x2a;
const ETHTOOL_GRSSH = 0x46;
const ETHTOOL_SRSSH = 0x47;
/** Size of the table in a request to set: leave it; 0 means reset it. */
const TABLE_UNCHANGED = 0xffffffff;

/** struct ethtool_rxfh: the words, two bytes, six reserved that must be 0; then table and key. */
const Rxfh = { tableSize: 8, keySize: 12, hashFunction: 16, inputTransform: 17, table: 24 } as const;

/** The part of struct ethtool_rxnfc that is about hashed fields: command, flow type, u64 of bits. */
const FIELDS_BYTES = 16;
const FLOW_TYPE = 4;
const FIELDS = 8;

/** `undefined` when the device is gone or does not say. */
export function rssOf(shim: Shim, ifindex: number): Rss | undefined {
  const rss = read(shim, ifindex);
  return typeof rss === 'number' ? undefined : rss;
}

/**
 * Changes what is given in one step. 0 or a negative errno: EOPNOTSUPP if the driver cannot; EINVAL if key
 * or table have another size than the device's, or an entry names a queue that it does not have.
 */
export function setRss(shim: Shim, ifindex: number, change: RssChange): number {
  const now = read(shim, ifindex);
  if (typeof now === 'number') return now;
  // "No change" of the transform is a value that older kernels refuse, so it is set to what it is.
  return ethtool(shim, ifindex, encodeRss({ inputTransform: now.inputTransform, ...change }));
}

/** RXH_ bits that are hashed for this kind of traffic; `undefined` when the device does not say. */
export function hashFields(shim: Shim, ifindex: number, flow: FlowType): number | undefined {
  const request = encodeHashFields(ETHTOOL_GRXFH, flow, 0);
  return ethtool(shim, ifindex, request) < 0 ? undefined : request.getUint32(FIELDS, true);
}

/** 0 or a negative errno. */
export function setHashFields(shim: Shim, ifindex: number, flow: FlowType, fields: number): number {
  return ethtool(shim, ifindex, encodeHashFields(ETHTOOL_SRXFH, flow, fields));
}

/** A request for what a device has, with room for so many entries and key bytes; (0, 0) asks how many. */
export function encodeRssQuery(tableSize: number, keySize: number): DataView {
  const view = new DataView(new ArrayBuffer(Rxfh.table + tableSize * 4 + keySize));
  view.setUint32(0, ETHTOOL_GRSSH, true);
  view.setUint32(Rxfh.tableSize, tableSize, true);
  view.setUint32(Rxfh.keySize, keySize, true);
  return view;
}

/** What the kernel wrote into a query with the right sizes. */
export function decodeRss(view: DataView): Rss {
  const tableSize = view.getUint32(Rxfh.tableSize, true);
  const key = Rxfh.table + tableSize * 4;
  return {
    key: new Uint8Array(view.buffer, view.byteOffset + key, view.getUint32(Rxfh.keySize, true)).slice(),
    table: Array.from({ length: tableSize }, (_, i) => view.getUint32(Rxfh.table + i * 4, true)),
    hashFunction: view.getUint8(Rxfh.hashFunction),
    inputTransform: view.getUint8(Rxfh.inputTransform),
  };
}

/** A request to change. Function 0 and no key bytes are no change; a transform of 0 is set, and is none. */
export function encodeRss(change: RssChange): DataView {
  const { key = new Uint8Array(0), table, hashFunction = 0, inputTransform = 0 } = change;
  const entries = table === undefined || table === 'default' ? [] : table;
  const view = new DataView(new ArrayBuffer(Rxfh.table + entries.length * 4 + key.length));
  view.setUint32(0, ETHTOOL_SRSSH, true);
  view.setUint32(Rxfh.tableSize, table === undefined ? TABLE_UNCHANGED : entries.length, true);
  view.setUint32(Rxfh.keySize, key.length, true);
  view.setUint8(Rxfh.hashFunction, hashFunction);
  view.setUint8(Rxfh.inputTransform, inputTransform);
  entries.forEach((queue, i) => {
    view.setUint32(Rxfh.table + i * 4, queue, true);
  });
  new Uint8Array(view.buffer, Rxfh.table + entries.length * 4).set(key);
  return view;
}

function encodeHashFields(command: number, flow: FlowType, fields: number): DataView {
  const view = new DataView(new ArrayBuffer(FIELDS_BYTES));
  view.setUint32(0, command, true);
  view.setUint32(FLOW_TYPE, flow, true);
  view.setUint32(FIELDS, fields, true);
  return view;
}

/** Asks for the sizes, then for the contents. Sizes that change in between are EINVAL. */
function read(shim: Shim, ifindex: number): Rss | number {
  const sizes = encodeRssQuery(0, 0);
  const known = ethtool(shim, ifindex, sizes);
  if (known < 0) return known;
  const whole = encodeRssQuery(sizes.getUint32(Rxfh.tableSize, true), sizes.getUint32(Rxfh.keySize, true));
  const result = ethtool(shim, ifindex, whole);
  return result < 0 ? result : decodeRss(whole);
}
