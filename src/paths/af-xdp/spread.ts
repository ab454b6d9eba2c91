/**
 * Makes a device spread packets over its queues exactly as the port's own hash and table do, if it can.
 *
 * A port knows for each packet the queue that it belongs to, whichever path it came by. A device that
 * agrees delivers it there; from one that does not, workers have to hand packets on. So what decides is
 * not whether the device took the settings but what it says afterwards: everything is read back.
 *
 * Coordinator only. Call it when the device has the port's number of queues, and have its settings put back before
 * that number is: the kernel refuses channels that a table still names.
 *
 * What no device can be asked: how it hashes fragments and IPv6 extension headers. A settled device may
 * still deliver those elsewhere.
 */
import type { DeviceSettings } from '../../kernel/device-settings.ts';
import {
  ADDRESSES_AND_PORTS,
  Flow,
  HASH_TOEPLITZ,
  hashFields,
  type Rss,
  rssOf,
} from '../../kernel/ethtool-rss.ts';
import type { Shim } from '../../kernel/shim.ts';
import { RETA_ENTRIES } from '../../memory/geometry.ts';
import { KEY_BYTES } from '../../rss/key.ts';
import { fieldsSetting, originalRss, type RssValue, rssSetting, rssValue } from './settings.ts';

export interface Wanted {
  /** At least 40 bytes. */
  readonly key: Uint8Array;
  /** The port's redirection table: 128 queue numbers below `queues`. */
  readonly table: Uint8Array;
  /** Receive queues that the device has. */
  readonly queues: number;
}

/**
 * Changes the device by way of `settings`, which put it back. A device that refuses is left alone and not settled.
 * One whose table is too small for the port's is set nonetheless: it agrees for some packets, and each of them saves
 * a hand-over.
 *
 * @returns whether the device now delivers every packet whose ports are hashed to the queue that the port's table
 *   names
 * @throws ERR_KERNEL if no socket can be had to ask with
 */
export function spreadDevice(shim: Shim, ifindex: number, wanted: Wanted, settings: DeviceSettings): boolean {
  if (wanted.queues === 1) return true; // there is nowhere else to go
  const before = rssOf(shim, ifindex);
  if (before === undefined || before.table.length === 0) return false;

  const want = agrees(before, wanted) ? rssValue(before) : changeFor(before, wanted);
  const original = (value: RssValue): RssValue => originalRss(value, wanted.queues);
  if (settings.set(rssSetting(shim, ifindex), want, original) < 0) return false;
  for (const flow of Object.values(Flow)) {
    settings.set(fieldsSetting(shim, ifindex, flow), ADDRESSES_AND_PORTS);
  }
  const after = rssOf(shim, ifindex);
  const fieldsAgree = Object.values(Flow).every(
    (flow) => hashFields(shim, ifindex, flow) === ADDRESSES_AND_PORTS,
  );
  return fieldsAgree && after !== undefined && agrees(after, wanted);
}

/** Whether this device finds the port's queue for every hash, and the port's hash for every input. */
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
 * The largest power of two, up to the port's table, that divides the device's: the low bits of a hash that
 * the device's entry depends on in the same way whether it masks the hash or takes a remainder.
 */
function periodOf(size: number): number {
  return Math.min(RETA_ENTRIES, size & -size);
}

function changeFor({ key, table }: Rss, wanted: Wanted): RssValue {
  return rssValue({
    // What a device has beyond the port's key is for inputs that the port does not hash.
    key: key.map((own, i) => wanted.key[i] ?? own),
    table: table.map((_, entry) => wanted.table[entry % RETA_ENTRIES]!),
    hashFunction: HASH_TOEPLITZ,
    inputTransform: 0,
  });
}
