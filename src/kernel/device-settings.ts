/**
 * The settings of one device that a port changes while it has the device, and restores afterwards.
 *
 * Each setting has two values: the original, which `restore` writes back, and the applied one, which the port needs.
 * - If another program changes the setting meanwhile, `reapply` applies the port's value again, and the other program's
 *   value becomes the original.
 * - `restore` and `restoreSaved` write the original only if the device still has the applied value.
 * - The original is saved before the change (settings-store.ts), so that it outlives the process. If it cannot be saved,
 *   the change is made nevertheless and the failure is reported.
 *
 * Coordinator only.
 */
import { Errno, errnoName } from '../errors.ts';
import type { Link } from './link.ts';
import { retryBriefly } from './readiness.ts';
import type { SettingsStore } from './settings-store.ts';

/** How often a value is written whose reading differs: another program writes it too, or the device rounds it. */
const WRITE_ATTEMPTS = 3;

/** One kind of setting of one device. Values are JSON. */
export interface Setting<T> {
  readonly name: string;
  /** `undefined` if the device is gone or does not report it. */
  read(): T | undefined;
  /** 0 or a negative errno. The device may store another value, which `read` then returns. */
  write(value: T): number;
  /** Checks a value from a file; undefined if it is not valid. */
  parse(value: unknown): T | undefined;
  /** Whether the driver may have chosen this value when it set the device up again. Default: never. */
  isDefault?(value: T): boolean;
}

interface Entry {
  readonly setting: Setting<unknown>;
  /** Makes the value to write back from the value that was read. */
  readonly toOriginal: (current: unknown) => unknown;
  original: unknown;
  /** The value that the device has after our write. */
  applied: unknown;
  /** Whether there is something to restore. */
  changed: boolean;
}

/** A setting that did not have the applied value any more, and the attempt to apply it again. */
export interface Drift {
  readonly name: string;
  readonly from: unknown;
  readonly to: unknown;
  /** 0 or more, or the errno of the write. */
  readonly result: number;
  /** Whether the device has the applied value now. If not although `result` is 0, another program keeps setting it. */
  readonly reapplied: boolean;
  /** Whether the driver set the device up again, and no other program changed it. */
  readonly wasReset: boolean;
}

/** Enough to recognize a redirection table, which has hundreds of numbers. */
const MAX_LENGTH = 120;
const shortened = (value: unknown): string => {
  const text = JSON.stringify(value);
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
};

/** A sentence for an event or a log. */
export function describeDrift({ name, from, to, result, reapplied, wasReset }: Drift): string {
  const change = `${wasReset ? 'its driver' : 'another program'} set its ${name} to ${shortened(from)}`;
  const wanted = shortened(to);
  if (reapplied) {
    const later = wasReset ? '' : ', and restores the other value when it closes';
    return `${change}: the port set ${wanted} again${later}`;
  }
  const why = result < 0 ? `refuses ${wanted} (${errnoName(result)})` : `does not keep ${wanted}`;
  return `${change}, and the device ${why}`;
}

/** For a report: the originals of a device could not be saved. */
export const notSaved = (why: string): string =>
  `its settings cannot be saved (${why}): if this process is killed, they stay as the port has set them`;

interface Written {
  readonly result: number;
  /** The reading after the write; the written value, if the device is gone. */
  readonly applied: unknown;
  /** The value that another program set between two of our writes. */
  readonly interfering?: unknown;
}

/** The settings of a port as data, for the next coordinator. */
export type HeldSettings = readonly (Pick<Entry, 'original' | 'applied' | 'changed'> & {
  readonly name: string;
})[];

const identity = <T>(current: T): unknown => current;

export class DeviceSettings {
  readonly #store: SettingsStore;
  readonly #link: Link;
  readonly #reportUnsaved: (detail: string) => void;
  readonly #changed: () => void;
  readonly #entries: Entry[] = [];

  /**
   * @param reportUnsaved called with the reason if an original cannot be saved
   * @param changed called when what is held has changed, before the device is written to
   */
  constructor(
    store: SettingsStore,
    link: Link,
    reportUnsaved: (detail: string) => void = () => {},
    changed: () => void = () => {},
  ) {
    this.#changed = changed;
    this.#store = store;
    this.#link = link;
    this.#reportUnsaved = reportUnsaved;
  }

  get held(): HeldSettings {
    return this.#entries.map(({ setting, original, applied, changed }) => ({
      name: setting.name,
      original,
      applied,
      changed,
    }));
  }

  /** Takes over the settings of the last coordinator. @param settings all kinds of setting */
  adopt(held: HeldSettings, settings: readonly Setting<unknown>[]): void {
    for (const { name, original, applied, changed } of held) {
      const setting = settings.find((one) => one.name === name);
      if (setting === undefined) continue;
      this.#entries.push({ setting, original, applied, changed, toOriginal: identity });
    }
  }

  /**
   * Applies a value until `restore`. May be called again with another value: the original stays, unless another program has
   * changed the setting since.
   *
   * @param toOriginal makes the value to write back from the value that was read, if they differ
   * @returns 0 or a negative errno: then the device is unchanged
   */
  set<T>(setting: Setting<T>, value: T, toOriginal: (current: T) => unknown = identity): number {
    const current = setting.read();
    if (current === undefined) return Errno.EOPNOTSUPP;
    const before = this.#entries.find((one) => one.setting.name === setting.name);
    const ours = before?.changed === true && same(current, before.applied);
    const entry: Entry = {
      setting: setting as Setting<unknown>,
      toOriginal: toOriginal as Entry['toOriginal'],
      original: ours ? before.original : toOriginal(current),
      applied: value,
      changed: ours || !same(current, value),
    };
    if (before === undefined) this.#entries.push(entry);
    else this.#entries[this.#entries.indexOf(before)] = entry;
    if (same(current, value)) return 0;
    this.#save();
    const { result, applied, interfering } = write(entry.setting, value);
    entry.applied = applied;
    if (interfering !== undefined) entry.original = entry.toOriginal(interfering);
    // A successful write may have changed more than `read` shows: a table now counts as set by the administrator.
    entry.changed = ours || result >= 0 || !same(current, applied);
    if (result < 0 || interfering !== undefined || !same(applied, value)) this.#save();
    return result;
  }

  /** Applies again all settings that other programs, or a reset of the device, have changed. */
  reapply(): Drift[] {
    const drifted = this.#entries.flatMap((entry) => {
      const current = entry.setting.read();
      return current === undefined || same(current, entry.applied) ? [] : [{ entry, current }];
    });
    for (const { entry, current } of drifted) {
      if (!isDefault(entry.setting, current)) entry.original = entry.toOriginal(current);
      entry.changed = true;
    }
    if (drifted.length > 0) this.#save();
    const drifts: Drift[] = [];
    let interfered = false;
    // Last first, as in `restore`: the kernel refuses channels that a table still names.
    for (const { entry, current } of drifted.reverse()) {
      const { setting, applied } = entry;
      const { result, applied: reading, interfering } = write(setting, applied);
      if (interfering !== undefined) {
        entry.original = entry.toOriginal(interfering);
        interfered = true;
      }
      const reapplied = same(reading, applied);
      drifts.push({
        name: setting.name,
        from: interfering ?? current,
        to: applied,
        result: reapplied ? 0 : result,
        reapplied,
        wasReset: interfering === undefined && isDefault(setting, current),
      });
    }
    if (interfered) this.#save();
    return drifts;
  }

  /** Restores one setting, unless another program has changed it since. @returns 0 or a negative errno */
  undo(name: string): number {
    const entry = this.#entries.find(({ setting }) => setting.name === name);
    if (entry === undefined) return 0;
    const { setting, original, applied, changed } = entry;
    const current = setting.read();
    const result = changed && current !== undefined && same(current, applied) ? setting.write(original) : 0;
    if (result < 0) return result;
    this.#entries.splice(this.#entries.indexOf(entry), 1);
    this.#save();
    return 0;
  }

  /** Restores all settings, last first. Never throws; may be called again. */
  restore(): void {
    const changed = this.#entries.splice(0).filter((entry) => entry.changed);
    if (changed.length === 0) return;
    let reachable = true;
    for (const { setting, original, applied } of changed.reverse()) {
      const current = attempt(() => setting.read());
      reachable &&= current !== undefined;
      if (isApplied(setting, current, applied)) attempt(() => retryBriefly(() => setting.write(original)));
    }
    // A device that moved to another namespace has kept our settings. Its MAC identifies it there, so they stay saved.
    if (reachable || !this.#store.recognizesEverywhere(this.#link)) this.#store.forget(this.#link);
  }

  #save(): void {
    this.#changed();
    const changed = this.#entries.filter((entry) => entry.changed);
    if (changed.length === 0) {
      this.#store.forget(this.#link);
      return;
    }
    try {
      const saved = changed.map(
        ({ setting, original, applied }) => [setting.name, { original, applied }] as const,
      );
      this.#store.save(this.#link, Object.fromEntries(saved));
    } catch (error) {
      this.#reportUnsaved((error as Error).message);
    }
  }
}

/**
 * Restores the settings of a device whose port was killed. Not for a device that another port is using.
 *
 * @param settings finds each kind that may have been saved, by name
 * @returns the names of the settings that were restored
 */
export function restoreSaved(
  store: SettingsStore,
  link: Link,
  settings: (name: string) => Setting<unknown> | undefined,
): string[] {
  const done: string[] = [];
  for (const [name, { original, applied }] of Object.entries(store.load(link)).reverse()) {
    const setting = settings(name);
    const value = setting?.parse(original);
    if (setting === undefined || value === undefined) continue;
    const current = attempt(() => setting.read());
    if (!isApplied(setting, current, applied)) continue;
    if ((attempt(() => setting.write(value)) ?? Errno.ENODEV) >= 0) done.push(name);
  }
  store.forget(link);
  return done;
}

/**
 * Writes a value until it reads as written. A reading that differs comes from another program or from the device, which
 * may round the value. Only the device's comes back after each write, so then nothing has interfered.
 */
function write(setting: Setting<unknown>, value: unknown): Written {
  let interfering: unknown;
  for (let attempts = 1; ; attempts++) {
    const result = setting.write(value);
    const applied = setting.read() ?? value;
    if (result < 0 || same(applied, value)) return { result, applied, interfering };
    if (attempts === WRITE_ATTEMPTS) return { result, applied };
    interfering = applied;
  }
}

const isDefault = (setting: Setting<unknown>, current: unknown): boolean =>
  setting.isDefault?.(current) === true;

/** Whether no other program has changed the setting since it was applied. */
function isApplied(setting: Setting<unknown>, current: unknown, applied: unknown): boolean {
  return same(current, applied) || (current !== undefined && isDefault(setting, current));
}

/** Undefined if it throws: the device may disappear at any moment, and then there is nothing to restore. */
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
