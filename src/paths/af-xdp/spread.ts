/**
 * Makes a device spread packets over its queues exactly as the port's own hash and table do, if it can.
 *
 * Each packet belongs to one queue of the port, on either path. A device that agrees delivers it there; with any other
 * device, workers hand packets over. A device may take settings and not follow them, so everything is read back.
 *
 * Coordinator only. Call it when the device has the port's number of queues. Its settings must be put back before that
 * number is: the kernel refuses fewer channels than a table names.
 *
 * A device does not report how it hashes fragments and IPv6 extension headers. One that agrees may still deliver those to
 * other queues.
 */
import type { DeviceSettings } from '../../kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../kernel/ethtool-netlink.ts';
import {
  ADDRESSES_AND_PORTS,
  Flow,
  HASH_TOEPLITZ,
  hashFields,
  type Rss,
  rssOf,
} from '../../kernel/ethtool-rss.ts';
import { RETA_ENTRIES } from '../../memory/geometry.ts';
import { KEY_BYTES } from '../../rss/key.ts';
import { fieldsSetting, originalRss, type RssValue, rssSetting, rssValue } from './settings.ts';

export interface Wanted {
  /** At least 40 bytes. */
  readonly key: Uint8Array;
  /** The port's redirection table: 128 queue numbers below `queues`. */
  readonly table: Uint8Array;
  /** Receive queues of the device. */
  readonly queues: number;
  /** Whether the device is up, or was: some drivers have no table before that. */
  readonly isUp: boolean;
}

/**
 * Changes the device through `settings`, which put it back. A device that refuses is left as it was. A device with a
 * smaller table than the port's is set too: it agrees for some packets, each of which then needs no hand-over.
 *
 * @returns whether the device now delivers every packet with hashed ports to the queue that the port's table names
 * @throws ERR_KERNEL if a request cannot be sent
 */
export function spreadDevice(
  ethtool: EthtoolNetlink,
  ifindex: number,
  wanted: Wanted,
  settings: DeviceSettings,
): boolean {
  if (wanted.queues === 1) return true;
  const before = rssOf(ethtool, ifindex);
  if (before === undefined || before.table.length === 0) return false;

  const want = agrees(before, wanted) ? rssValue(before) : changeFor(before, wanted);
  const original = (value: RssValue): RssValue => originalRss(value, wanted.queues, wanted.isUp);
  if (settings.set(rssSetting(ethtool, ifindex), want, original) < 0) return false;
  for (const flow of Object.values(Flow)) {
    settings.set(fieldsSetting(ethtool, ifindex, flow), ADDRESSES_AND_PORTS);
  }
  const after = rssOf(ethtool, ifindex);
  const fieldsAgree = Object.values(Flow).every(
    (flow) => hashFields(ethtool, ifindex, flow) === ADDRESSES_AND_PORTS,
  );
  return fieldsAgree && after !== undefined && agrees(after, wanted);
}

/** Whether the device computes the port's hash for every input, and selects the port's queue for every hash. */
export function agrees({ key, table, hashFunction, inputTransform }: Rss, wanted: Wanted): boolean {
  if (hashFunction !== HASH_TOEPLITZ || inputTransform !== 0) return false;
  for (let i = 0; i < KEY_BYTES; i++) if (key[i] !== wanted.key[i]) return false;

  const period = periodOf(table.length);
  return (
    wanted.table.every((queue, entry) => queue === wanted.table[entry & (period - 1)]) &&
    table.every((queue, entry) => queue === wanted.table[entry & (period - 1)])
  );
}

/**
 * The largest power of two, up to the port's table size, that divides the device's table size. An entry depends on the hash
 * modulo this number in the same way whether the device masks the hash or takes a remainder.
 */
function periodOf(size: number): number {
  return Math.min(RETA_ENTRIES, size & -size);
}

function changeFor({ key, table }: Rss, wanted: Wanted): RssValue {
  return rssValue({
    // Key bytes beyond the port's key are for inputs that the port does not hash.
    key: key.map((own, i) => wanted.key[i] ?? own),
    table: table.map((_, entry) => wanted.table[entry % RETA_ENTRIES]!),
    hashFunction: HASH_TOEPLITZ,
    inputTransform: 0,
  });
}
