/**
 * Settings of one device that a port changes for as long as it has the device, and puts back.
 *
 * A setting is put back only where it still is what we made of it: what somebody else has set since is theirs. And
 * what somebody sets while the port is open is set again by `settle`, and given back to them at the end.
 *
 * The original is saved before the change, so that it is not lost with the process: see settings-store.ts. Where it
 * cannot be saved the change is made all the same, and that is told.
 *
 * Coordinator only.
 */
import { Errno, errnoName } from '../errors.ts';
import type { Link } from './link.ts';
import { retryBriefly } from './readiness.ts';
import type { SettingsStore } from './settings-store.ts';

/** How often a value is written that reads otherwise at once: somebody else sets it too, or the device rounds it. */
const TRIES = 3;

/** One kind of setting of one device. Values are JSON. */
export interface Setting<T> {
  readonly name: string;
  /** `undefined` when the device is gone, or does not say. */
  read(): T | undefined;
  /** 0 or a negative errno. What the device makes of it, `read` tells. */
  write(value: T): number;
  /** The value that a file holds, or undefined if it holds none. */
  parse(value: unknown): T | undefined;
  /** Whether a device has that by itself, once it was set up anew: then nobody has set it. Default: never. */
  isFresh?(value: T): boolean;
}

interface Entry {
  readonly setting: Setting<unknown>;
  /** What putting `current` back takes. */
  readonly original: (current: unknown) => unknown;
  was: unknown;
  /** What the device made of our change. */
  now: unknown;
  /** It is not what it was: there is something to put back. */
  changed: boolean;
}

/** What others changed, and whether it could be set back. */
export interface Settled {
  readonly name: string;
  readonly from: unknown;
  readonly to: unknown;
  /** Not negative, or the errno that stood in the way. */
  readonly result: number;
  /** Whether it read so afterwards. Taken and not kept: others set it as often. */
  readonly kept: boolean;
  /** Nobody did: the device was set up anew. */
  readonly fresh: boolean;
}

/** A table has hundreds of numbers. */
const MAX_LENGTH = 120;
const inShort = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
};

/** Says so, for a person. */
export function describeSettled({ name, from, to, result, kept }: Settled): string {
  const change = `somebody has set its ${name} to ${inShort(from)}`;
  const wanted = inShort(to);
  if (kept) return `${change}: it has ${wanted} again while the port is open, and theirs afterwards`;
  const why = result < 0 ? `take ${wanted} again (${errnoName(result)})` : `keep ${wanted}`;
  return `${change}, and it does not ${why}`;
}

interface Written {
  readonly result: number;
  /** What it reads afterwards; what was written, if the device is gone. */
  readonly now: unknown;
  /** What somebody else set while it was written, if it was seen. */
  readonly theirs?: unknown;
}

/** What is set, as data: what another coordinator goes on from. */
export type HeldSettings = readonly (Pick<Entry, 'was' | 'now' | 'changed'> & { readonly name: string })[];

export class DeviceSettings {
  readonly #store: SettingsStore;
  readonly #link: Link;
  readonly #complain: (detail: string) => void;
  readonly #entries: Entry[] = [];

  /** @param complain told why an original cannot be saved, once */
  constructor(store: SettingsStore, link: Link, complain: (detail: string) => void = () => {}) {
    this.#store = store;
    this.#link = link;
    this.#complain = complain;
  }

  get held(): HeldSettings {
    return this.#entries.map(({ setting, was, now, changed }) => ({ name: setting.name, was, now, changed }));
  }

  /** Goes on with what another object has set. @param settings every kind there is */
  adopt(held: HeldSettings, settings: readonly Setting<unknown>[]): void {
    for (const { name, was, now, changed } of held) {
      const setting = settings.find((one) => one.name === name);
      if (setting !== undefined)
        this.#entries.push({ setting, was, now, changed, original: (current) => current });
    }
  }

  /**
   * Has the device at that value until `restore`. 0 or a negative errno: then it is left as it was.
   *
   * @param original what it takes to put the value back that was found, if not that value
   */
  set<T>(setting: Setting<T>, want: T, original: (current: T) => unknown = (current) => current): number {
    const current = setting.read();
    if (current === undefined) return Errno.EOPNOTSUPP;
    const entry: Entry = {
      setting: setting as Setting<unknown>,
      original: original as Entry['original'],
      was: original(current),
      now: want,
      changed: !same(current, want),
    };
    this.#entries.push(entry);
    if (!entry.changed) return 0;
    this.#save();
    const { result, now, theirs } = write(entry.setting, want);
    entry.now = now;
    if (theirs !== undefined) entry.was = entry.original(theirs);
    // What a device took may have changed more than is read back: a table is the administrator's then.
    entry.changed = result >= 0 || !same(current, entry.now);
    if (result < 0 || theirs !== undefined || !same(entry.now, want)) this.#save();
    return result;
  }

  /** Sets back what others, or the device itself, have changed since; what others set is given back to them by `restore`. */
  settle(): Settled[] {
    const settled: Settled[] = [];
    const changed = this.#entries.flatMap((entry) => {
      const current = entry.setting.read();
      return current === undefined || same(current, entry.now) ? [] : [{ entry, current }];
    });
    for (const { entry, current } of changed) {
      if (!isFresh(entry.setting, current)) entry.was = entry.original(current);
      entry.changed = true;
    }
    if (changed.length > 0) this.#save();
    let changedAgain = false;
    // Last first, as for `restore`: the kernel refuses channels that a table still names.
    for (const { entry, current } of changed.reverse()) {
      const { setting, now } = entry;
      const { result, now: after, theirs } = write(setting, now);
      if (theirs !== undefined) {
        entry.was = entry.original(theirs);
        changedAgain = true;
      }
      const kept = same(after, now);
      const fresh = theirs === undefined && isFresh(setting, current);
      const found = { name: setting.name, from: theirs ?? current, to: now };
      settled.push({ ...found, result: kept ? 0 : result, kept, fresh });
    }
    if (changedAgain) this.#save();
    return settled;
  }

  /** Puts everything back, last first. Never throws; may be called again. */
  restore(): void {
    const changed = this.#entries.splice(0).filter((entry) => entry.changed);
    if (changed.length === 0) return;
    let reachable = true;
    for (const { setting, was, now } of changed.reverse()) {
      const current = attempt(() => setting.read());
      reachable &&= current !== undefined;
      if (isOurs(setting, current, now)) attempt(() => retryBriefly(() => setting.write(was)));
    }
    // A device that went to another namespace has taken our settings with it, and is known by its MAC there.
    if (reachable || !this.#store.travels(this.#link)) this.#store.forget(this.#link);
  }

  #save(): void {
    const changed = this.#entries.filter((entry) => entry.changed);
    const settings = changed.map(({ setting, was, now }) => [setting.name, { was, now }] as const);
    if (settings.length === 0) {
      this.#store.forget(this.#link);
      return;
    }
    try {
      this.#store.save(this.#link, Object.fromEntries(settings));
    } catch (error) {
      this.#complain((error as Error).message);
    }
  }
}

/**
 * Puts back what a port that was killed has left of this device. Not for a device that another port is at work on.
 *
 * @param settings every kind that may have been saved, by name
 * @returns what was put back, by name
 */
export function putBack(
  store: SettingsStore,
  link: Link,
  settings: (name: string) => Setting<unknown> | undefined,
): string[] {
  const done: string[] = [];
  for (const [name, { was, now }] of Object.entries(store.load(link)).reverse()) {
    const setting = settings(name);
    const value = setting?.parse(was);
    if (setting === undefined || value === undefined) continue;
    const current = attempt(() => setting.read());
    if (!isOurs(setting, current, now)) continue;
    if ((attempt(() => setting.write(value)) ?? Errno.ENODEV) >= 0) done.push(name);
  }
  store.forget(link);
  return done;
}

/**
 * What reads otherwise right after the device took it was set by another in between, or is what the device makes of it:
 * only the second comes back each time.
 */
function write(setting: Setting<unknown>, want: unknown): Written {
  let theirs: unknown;
  for (let tries = 1; ; tries++) {
    const result = setting.write(want);
    const now = setting.read() ?? want;
    if (result < 0 || same(now, want)) return { result, now, theirs };
    if (tries === TRIES) return { result, now };
    theirs = now;
  }
}

const isFresh = (setting: Setting<unknown>, current: unknown): boolean => setting.isFresh?.(current) === true;

/** Whether nobody else has set it since it was ours. */
function isOurs(setting: Setting<unknown>, current: unknown, now: unknown): boolean {
  return same(current, now) || (current !== undefined && isFresh(setting, current));
}

/** The device may go at any moment: then there is nothing to put back. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
