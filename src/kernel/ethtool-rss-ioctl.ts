/**
 * A device's receive-side scaling by ioctl, for kernels that have no netlink message for it: see ethtool-rss.ts.
 *
 * Each call takes RTNL (device-ioctl.ts). Formats: include/uapi/linux/ethtool.h; the kernel's side: net/ethtool/ioctl.c.
 *
 * NB: a table entry has 32 bits here. The key follows the table in the same structure.
 */
import { ethtool } from './device-ioctl.ts';
import type { Shim } from './shim.ts';

export interface Rss {
  /** 40 bytes on most devices, 52 on some. */
  readonly key: Uint8Array;
  /** A receive queue number for each entry that the device has. */
  readonly table: number[];
  /** One bit: Toeplitz (1, ETH_RSS_HASH_TOP), XOR (2) or CRC32 (4). */
  readonly hashFunction: number;
  /** How the input is transformed before it is hashed; 0 is not at all, as in kernels before 6.8. */
  readonly inputTransform: number;
}

/** A change; absent properties stay. */
export interface RssChange {
  readonly key?: Uint8Array;
  /** 'default': the kernel's own table, which follows the number of channels from then on. */
  readonly table?: readonly number[] | 'default';
  readonly hashFunction?: number;
  readonly inputTransform?: number;
}

/** Flow types, each of which has its own set of hashed fields: TCP_V4_FLOW and so on; IP4 is what is none of the others. */
export const Flow = { TCP4: 1, UDP4: 2, TCP6: 5, UDP6: 6, IP4: 0x10, IP6: 0x11 } as const;
export type FlowType = (typeof Flow)[keyof typeof Flow];

const ETHTOOL_GRXFH = 0x29;
const ETHTOOL_SRXFH = 0x2a;
const ETHTOOL_GRSSH = 0x46;
const ETHTOOL_SRSSH = 0x47;
/** In a request, this size of the table leaves the table unchanged; 0 resets it. */
const TABLE_UNCHANGED = 0xffffffff;

/** struct ethtool_rxfh. Bytes 18 to 23 are reserved and must be 0; the key follows the table. */
const Rxfh = { tableSize: 8, keySize: 12, hashFunction: 16, inputTransform: 17, table: 24 } as const;

/** The start of struct ethtool_rxnfc: command, flow type, 64 bits of fields. */
const FIELDS_BYTES = 16;
const FLOW_TYPE = 4;
const FIELDS = 8;

/** Asks for the sizes, then for the contents; a negative errno: EINVAL if the sizes change in between. */
export function readRss(shim: Shim, ifindex: number): Rss | number {
  const sizes = encodeRssQuery(0, 0);
  const sized = ethtool(shim, ifindex, sizes);
  if (sized < 0) return sized;
  const contents = encodeRssQuery(sizes.getUint32(Rxfh.tableSize, true), sizes.getUint32(Rxfh.keySize, true));
  const result = ethtool(shim, ifindex, contents);
  return result < 0 ? result : decodeRss(contents);
}

/** Makes the change in one request. @returns 0 or a negative errno */
export function writeRss(shim: Shim, ifindex: number, change: RssChange): number {
  const current = readRss(shim, ifindex);
  if (typeof current === 'number') return current;
  // Older kernels refuse the value for "no change" of the transform, so the current one is set again.
  return ethtool(shim, ifindex, encodeRss({ inputTransform: current.inputTransform, ...change }));
}

/** RXH_ bits, or a negative errno. */
export function readHashFields(shim: Shim, ifindex: number, flow: FlowType): number {
  const request = encodeHashFields(ETHTOOL_GRXFH, flow, 0);
  const result = ethtool(shim, ifindex, request);
  return result < 0 ? result : request.getUint32(FIELDS, true);
}

/** 0 or a negative errno. */
export function writeHashFields(shim: Shim, ifindex: number, flow: FlowType, fields: number): number {
  return ethtool(shim, ifindex, encodeHashFields(ETHTOOL_SRXFH, flow, fields));
}

/** A query with room for this many table entries and key bytes; (0, 0) asks for the sizes. */
export function encodeRssQuery(tableSize: number, keySize: number): DataView {
  const view = new DataView(new ArrayBuffer(Rxfh.table + tableSize * 4 + keySize));
  view.setUint32(0, ETHTOOL_GRSSH, true);
  view.setUint32(Rxfh.tableSize, tableSize, true);
  view.setUint32(Rxfh.keySize, keySize, true);
  return view;
}

/** Decodes the kernel's answer in a query with the right sizes. */
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

/** A request to change. Function 0 and a key without bytes change nothing; a transform of 0 is set. */
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
