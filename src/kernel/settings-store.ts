/**
 * Original settings of devices, where they outlive the process: one small file for each device whose settings a
 * port has changed. A port that is killed cannot put them back; the next start does, or knows at least what they were.
 *
 * The files lie in a folder that only its owner can enter: /run/twinpath for root, else $XDG_RUNTIME_DIR/twinpath.
 * /run is empty after every boot, as the settings are. A file is whole or not there: it is written under another
 * name and renamed. Nothing is read that somebody else could have written, and no link is followed.
 *
 * Coordinator thread; synchronous, some tens of microseconds a call.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Link } from './link.ts';
import { isRoot } from './machine.ts';
import type { Shim } from './shim.ts';

/** What was found before the first change, and what it was changed to; both are JSON. */
export interface SavedSetting {
  readonly was: unknown;
  readonly now: unknown;
}

export type SavedSettings = Readonly<Record<string, SavedSetting>>;

const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const NO_ADDRESS = '00:00:00:00:00:00';
/** No record of ours comes near it: a redirection table has 4096 entries at most. */
const MAX_LENGTH = 256 * 1024;

export class SettingsStore {
  readonly #folder: string | undefined;
  /** Why nothing can be kept here; undefined while it can. */
  readonly refusal: string | undefined;
  readonly #namespace: string;
  readonly #boot: string;
  readonly #part: string;

  /**
   * @param folder of the files; undefined where there is none, and then `refusal` says why
   * @param part of a port that changes settings, as its files' names end; '' for a VF's
   */
  constructor(namespace: string, folder: string | undefined, refusal?: string, part = '') {
    this.#namespace = namespace;
    this.#part = part;
    this.#boot = bootId();
    this.#folder = folder;
    this.refusal = refusal;
  }

  /** The store for the network namespace of the calling thread. Makes the folder if it must. Never throws. */
  static open(shim: Shim, environment: NodeJS.ProcessEnv = process.env): SettingsStore {
    const namespace = namespaceId(shim);
    const parent = isRoot() ? '/run' : runtimeFolder(environment);
    if (parent === undefined) {
      const why = 'this user has no folder for it: XDG_RUNTIME_DIR is not set, or not the user’s own';
      return new SettingsStore(namespace, undefined, why);
    }
    const folder = join(parent, 'twinpath');
    try {
      makeFolder(folder);
      return new SettingsStore(namespace, folder, foreign(folder));
    } catch (error) {
      return new SettingsStore(namespace, undefined, (error as Error).message);
    }
  }

  /**
   * The files of the NetVSC's settings. A NetVSC and its VF have the same permanent MAC, and one card alone is both:
   * each keeps its originals in a file of its own.
   */
  get netvsc(): SettingsStore {
    return new SettingsStore(this.#namespace, this.#folder, this.refusal, '-netvsc');
  }

  /** What a port that did not come to put it back has left of this device; empty if nothing. Never throws. */
  load(link: Link): SavedSettings {
    const file = this.#file(link);
    if (file === undefined || this.refusal !== undefined) return {};
    try {
      const { boot, ifindex, settings } = JSON.parse(readOwn(file)) as Record<string, unknown>;
      // Another ifindex is another device in the same place: it has come with its own settings.
      if (boot !== this.#boot || ifindex !== link.ifindex || !isRecord(settings)) return {};
      return Object.fromEntries(
        Object.entries(settings).filter(([, one]) => isRecord(one) && 'was' in one && 'now' in one),
      ) as SavedSettings;
    } catch {
      return {}; // not there, or nothing of ours
    }
  }

  /** Who saved that: the process that may still be at work on it. 0 if nobody has. */
  owner(link: Link): number {
    const file = this.#file(link);
    if (file === undefined || this.refusal !== undefined) return 0;
    try {
      const { pid, started } = JSON.parse(readOwn(file)) as Record<string, unknown>;
      return typeof pid === 'number' && startOf(pid) === started ? pid : 0;
    } catch {
      return 0;
    }
  }

  /** Keeps that, in place of what was kept for the device before. @throws Error: no room, read-only, not private */
  save(link: Link, settings: SavedSettings): void {
    const file = this.#file(link);
    if (file === undefined || this.refusal !== undefined) throw new Error(this.refusal);
    const { pid } = process;
    const record = { boot: this.#boot, ifindex: link.ifindex, pid, started: startOf(pid), settings };
    const own = `${file}.${pid}`;
    try {
      rmSync(own, { force: true });
      const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
      const fd = openSync(own, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      try {
        const text = Buffer.from(JSON.stringify(record));
        for (let at = 0; at < text.length; ) at += writeSync(fd, text, at);
      } finally {
        closeSync(fd);
      }
      renameSync(own, file);
    } catch (error) {
      rmSync(own, { force: true });
      throw error;
    }
  }

  /** Removes what is kept of this device; not what is kept of another one of the same MAC. Never throws. */
  forget(link: Link): void {
    const file = this.#file(link);
    if (file === undefined || this.refusal !== undefined || this.#isOfAnother(link, file)) return;
    try {
      rmSync(file, { force: true });
    } catch {} // read-only by now: the next start finds settings that are as they were, and forgets it
  }

  /** Whether the device is known by something that it keeps in another network namespace. */
  travels(link: Link): boolean {
    return placeOf(link) !== undefined;
  }

  /** Whether anything is kept at all: most often nothing is. */
  get empty(): boolean {
    if (this.#folder === undefined || this.refusal !== undefined) return true;
    try {
      return readdirSync(this.#folder).length === 0;
    } catch {
      return true;
    }
  }

  /** A VF has the MAC of its NetVSC: its file may be looked up for that. What is damaged belongs to neither. */
  #isOfAnother(link: Link, file: string): boolean {
    try {
      const { boot, ifindex } = JSON.parse(readOwn(file)) as Record<string, unknown>;
      return boot === this.#boot && typeof ifindex === 'number' && ifindex !== link.ifindex;
    } catch {
      return false;
    }
  }

  #file(link: Link): string | undefined {
    if (this.#folder === undefined) return undefined;
    const name = placeOf(link) ?? `netns-${this.#namespace}-${link.ifindex}`;
    return join(this.#folder, `${name}${this.#part}.json`);
  }
}

/**
 * The permanent MAC, which a device keeps wherever it goes, or its place on a bus. Virtual devices have neither:
 * they are known by their ifindex in their namespace.
 */
function placeOf({ permanentAddress, parentBus, parentDevice }: Link): string | undefined {
  if (permanentAddress !== '' && permanentAddress !== NO_ADDRESS) {
    return `mac-${permanentAddress.replaceAll(':', '-')}`;
  }
  const place = `${parentBus}-${parentDevice}`;
  return parentDevice !== '' && /^[\w.:-]+$/.test(place) ? `bus-${place}` : undefined;
}

/** The cookie of the thread's network namespace, never used twice (Linux 5.14), or else its inode, which is. */
export function namespaceId(shim: Shim): string {
  const fd = shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd >= 0) {
    const cookie = new BigUint64Array(1);
    const length = shim.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, 8);
    shim.close(fd);
    if (length === 8) return String(cookie[0]);
  }
  return `i${/\d+/.exec(readlinkSync('/proc/thread-self/ns/net'))?.[0] ?? ''}`;
}

/** Not `recursive`: the parent is there, or it is not ours to make. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Why this folder is not private to us; undefined if it is. */
function foreign(folder: string): string | undefined {
  const { uid, mode } = lstatSync(folder);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR) return `${folder} is not a folder`;
  if (uid !== process.geteuid?.()) return `${folder} belongs to another user`;
  return (mode & 0o077) === 0 ? undefined : `others may use ${folder}: it takes mode 700`;
}

/** $XDG_RUNTIME_DIR, if it is what its specification demands: absolute, the user's own, mode 0700. */
function runtimeFolder({ XDG_RUNTIME_DIR: folder }: NodeJS.ProcessEnv): string | undefined {
  if (folder === undefined || !folder.startsWith('/')) return undefined;
  try {
    return foreign(folder) === undefined ? folder : undefined;
  } catch {
    return undefined;
  }
}

/** @throws Error if it is not there, or not a plain file of this user that only this user may write */
function readOwn(file: string): string {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { uid, mode, nlink, size } = fstatSync(fd);
    const plain = (mode & constants.S_IFMT) === constants.S_IFREG && nlink === 1 && size <= MAX_LENGTH;
    if (!plain || uid !== process.geteuid?.() || (mode & 0o022) !== 0) throw new Error(`${file} is not ours`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/** In clock ticks since boot: with the process id it names a process for good. '' if there is no such process. */
function startOf(pid: number): string {
  try {
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '');
    return fields.split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
