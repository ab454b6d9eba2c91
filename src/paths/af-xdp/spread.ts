/**
 * Makes a device spread packets over its queues exactly as the port's own hash and table do, if it can.
 *
 * A port knows for each packet the queue that it belongs to, whichever path it came by. A device that
 * agrees delivers it there; from one that does not, workers have to hand packets on. So what decides is
 * not whether the device took the settings but what it says afterwards: everything is read back.
 *
 * Coordinator only. Call it when the device has the port's number of queues, and `restore` before that
 * number is put back: the kernel refuses channels that a table still names.
 *
 * What no device can be asked: how it hashes fragments and IPv6 extension headers. A settled device may
 * still deliver those elsewhere.
 */
import {
  ADDRESSES_AND_PORTS,
  Flow,
  HASH_TOEPLITZ,
  hashFields,
  type Rss,
  type RssChange,
  rssOf,
  setHashFields,
  setRss,
} from '../../kernel/ethtool-rss.ts';
import type { Shim } from '../../kernel/shim.ts';
import { RETA_ENTRIES } from '../../memory/layout.ts';
import { KEY_BYTES } from '../../rss/key.ts';

export interface Wanted {
  /** At least 40 bytes. */
  readonly key: Uint8Array;
  /** The port's redirection table: 128 queue numbers below `queues`. */
  readonly table: Uint8Array;
  /** Receive queues that the device has. */
  readonly queues: number;
}

export interface DeviceSpread {
  /** The device now delivers every packet whose ports are hashed to the queue that the port's table names. */
  readonly settled: boolean;
  /** Puts back what was there, as far as the device is; once. */
  restore(): void;
}

const LEFT_ALONE = { restore: () => {} };

/**
 * A device that refuses is left alone and not settled. One whose table is too small for the port's is set
 * nonetheless: it agrees for some packets, and each of them saves a hand-over.
 *
 * @throws ERR_KERNEL if no socket can be had to ask with
 */
export function spreadDevice(shim: Shim, name: string, wanted: Wanted): DeviceSpread {
  if (wanted.queues === 1) return { ...LEFT_ALONE, settled: true }; // there is nowhere else to go
  const before = rssOf(shim, name);
  if (before === undefined || before.table.length === 0) return { ...LEFT_ALONE, settled: false };

  const undo: (() => void)[] = [];
  const restore = (): void => {
    while (undo.length > 0) undo.pop()!();
  };
  if (!agrees(before, wanted)) {
    if (setRss(shim, name, changeFor(before, wanted)) < 0) return { ...LEFT_ALONE, settled: false };
    undo.push(() => setRss(shim, name, restoration(before, wanted.queues)));
  }
  for (const flow of Object.values(Flow)) {
    const fields = hashFields(shim, name, flow);
    if (fields === undefined || fields === ADDRESSES_AND_PORTS) continue;
    if (setHashFields(shim, name, flow, ADDRESSES_AND_PORTS) < 0) continue;
    undo.push(() => setHashFields(shim, name, flow, fields));
  }
  const after = rssOf(shim, name);
  const fieldsAgree = Object.values(Flow).every(
    (flow) => hashFields(shim, name, flow) === ADDRESSES_AND_PORTS,
  );
  return { settled: fieldsAgree && after !== undefined && agrees(after, wanted), restore };
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

// Both name the hash function only where it changes: some drivers refuse to be told.

function changeFor({ key, table, hashFunction }: Rss, wanted: Wanted): RssChange {
  return {
    // What a device has beyond the port's key is for inputs that the port does not hash.
    key: key.map((own, i) => wanted.key[i] ?? own),
    table: table.map((_, entry) => wanted.table[entry % RETA_ENTRIES]!),
    hashFunction: hashFunction === HASH_TOEPLITZ ? undefined : HASH_TOEPLITZ,
    inputTransform: 0,
  };
}

/**
 * A table that looks like the kernel's own is put back as that: spelled out, it would count as the
 * administrator's, and would no longer follow the number of channels.
 */
function restoration({ key, table, hashFunction, inputTransform }: Rss, queues: number): RssChange {
  const isDefault = table.every((queue, entry) => queue === entry % queues);
  return {
    key,
    table: isDefault ? 'default' : table,
    hashFunction: hashFunction === HASH_TOEPLITZ ? undefined : hashFunction,
    inputTransform,
  };
}
