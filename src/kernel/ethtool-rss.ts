/**
 * A device's receive-side scaling: key, redirection table, hash function, and which fields are hashed.
 *
 * By netlink, which names the device by its ifindex, where the kernel has the message: it reads them since Linux 6.3
 * (ETHTOOL_MSG_RSS_GET), and sets them and reports the hashed fields since Linux 6.17 (ETHTOOL_MSG_RSS_SET). On other kernels
 * by ioctl (ethtool-rss-ioctl.ts), which names the device by the name that it has at that moment.
 *
 * Each call takes RTNL. A driver may stop its queues for a moment during a change. Coordinator thread only. The kernel's side:
 * net/ethtool/rss.c.
 */
import { Errno } from '../errors.ts';
import type { EthtoolNetlink } from './ethtool-netlink.ts';
import {
  Flow,
  type FlowType,
  type Rss,
  type RssChange,
  readHashFields,
  readRss,
  writeHashFields,
  writeRss,
} from './ethtool-rss-ioctl.ts';
import { type Attributes, viewOf } from './netlink.ts';

export { Flow, type FlowType, type Rss } from './ethtool-rss-ioctl.ts';

/** ETH_RSS_HASH_TOP. */
export const HASH_TOEPLITZ = 1;

/** Addresses and ports: RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1 and RXH_L4_B_2_3. */
export const ADDRESSES_AND_PORTS = 0xf0;
export const ADDRESSES = 0x30;
/** Packets with these fields are not hashed, and have the hash 0. */
export const NO_FIELDS = 0;

/** ETHTOOL_A_RSS_* */
const RSS = { HFUNC: 3, INDIR: 4, HKEY: 5, INPUT_XFRM: 6, FLOW_HASH: 8 } as const;
/** ETHTOOL_A_FLOW_* */
const FLOW_ATTRIBUTE: Record<FlowType, number> = {
  [Flow.TCP4]: 4,
  [Flow.TCP6]: 5,
  [Flow.UDP4]: 6,
  [Flow.UDP6]: 7,
  [Flow.IP4]: 2,
  [Flow.IP6]: 3,
};

/** `undefined` if the device is gone or does not report it. @throws ERR_KERNEL if the request cannot be sent */
export function rssOf(ethtool: EthtoolNetlink, ifindex: number): Rss | undefined {
  const rss = read(ethtool, ifindex);
  return typeof rss === 'number' ? undefined : rss;
}

/**
 * Makes the change in one request.
 *
 * @returns 0 or a negative errno: EOPNOTSUPP if the driver cannot; EINVAL if key or table has the wrong size for the
 *   device, or an entry names a queue that it does not have
 * @throws ERR_KERNEL if the request cannot be sent
 */
export function setRss(ethtool: EthtoolNetlink, ifindex: number, change: RssChange): number {
  if (!ethtool.has('RSS_SET')) return writeRss(ethtool.shim, ifindex, change);
  const before = read(ethtool, ifindex);
  if (typeof before === 'number') return before;
  const { key, table, hashFunction = 0, inputTransform } = change;
  // The kernel accepts a shorter table, and repeats it. A table of another size is refused here as by ioctl.
  if (Array.isArray(table) && table.length > 0 && table.length !== before.table.length) return Errno.EINVAL;
  const result = ethtool.set('RSS_SET', ifindex, (request) => {
    if (hashFunction !== 0) request.u32(RSS.HFUNC, hashFunction);
    if (table !== undefined) request.bytes(RSS.INDIR, tableBytes(table === 'default' ? [] : table));
    if (key !== undefined && key.length > 0) request.bytes(RSS.HKEY, key);
    if (inputTransform !== undefined) request.u32(RSS.INPUT_XFRM, inputTransform);
  });
  if (result < 0 || table === undefined) return result;
  return missesTable(ethtool, ifindex, table, before.table)
    ? writeRss(ethtool.shim, ifindex, { table })
    : result;
}

/** RXH_ bits of the fields hashed for this flow type; `undefined` if the device does not report them. @throws ERR_KERNEL */
export function hashFields(ethtool: EthtoolNetlink, ifindex: number, flow: FlowType): number | undefined {
  // A kernel that cannot set the fields by netlink does not report them by netlink either.
  if (!ethtool.has('RSS_SET')) {
    const fields = readHashFields(ethtool.shim, ifindex, flow);
    return fields < 0 ? undefined : fields;
  }
  const reply = ethtool.get('RSS_GET', ifindex);
  if (typeof reply === 'number') return undefined;
  const fields = reply.nested(RSS.FLOW_HASH);
  const attribute = FLOW_ATTRIBUTE[flow];
  return fields.has(attribute) ? fields.u32(attribute) : undefined;
}

/** 0 or a negative errno. @throws ERR_KERNEL if the request cannot be sent */
export function setHashFields(
  ethtool: EthtoolNetlink,
  ifindex: number,
  flow: FlowType,
  fields: number,
): number {
  if (!ethtool.has('RSS_SET')) return writeHashFields(ethtool.shim, ifindex, flow, fields);
  return ethtool.set('RSS_SET', ifindex, (request) =>
    request.nest(RSS.FLOW_HASH).u32(FLOW_ATTRIBUTE[flow], fields).end(),
  );
}

/** A device without a value does not send its attribute. */
export function parseRss(reply: Attributes): Rss {
  return {
    key: (reply.get(RSS.HKEY) ?? new Uint8Array(0)).slice(),
    table: tableOf(reply.get(RSS.INDIR)),
    hashFunction: reply.u32(RSS.HFUNC),
    inputTransform: reply.u32(RSS.INPUT_XFRM),
  };
}

function read(ethtool: EthtoolNetlink, ifindex: number): Rss | number {
  if (!ethtool.has('RSS_GET')) return readRss(ethtool.shim, ifindex);
  const reply = ethtool.get('RSS_GET', ifindex);
  return typeof reply === 'number' ? reply : parseRss(reply);
}

/**
 * Whether the kernel may have reported success without giving the table to the driver. rss_set_prep_indir compares only the
 * first quarter of a table with the present one, and finds no change if the difference is behind it (fixed by comparing
 * `alloc_size` bytes; Linux 6.17 and 6.18 have the fault). The ioctl compares nothing.
 */
function missesTable(
  ethtool: EthtoolNetlink,
  ifindex: number,
  wanted: NonNullable<RssChange['table']>,
  before: readonly number[],
): boolean {
  const after = rssOf(ethtool, ifindex)?.table;
  if (after === undefined) return false;
  return same(after, before) && (wanted === 'default' || !same(after, wanted));
}

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((queue, entry) => queue === b[entry]);

function tableOf(value: Uint8Array | undefined): number[] {
  if (value === undefined) return [];
  const view = viewOf(value);
  return Array.from({ length: value.length >> 2 }, (_, entry) => view.getUint32(entry * 4, true));
}

function tableBytes(table: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(table.length * 4));
  for (const [entry, queue] of table.entries()) view.setUint32(entry * 4, queue, true);
  return new Uint8Array(view.buffer);
}
