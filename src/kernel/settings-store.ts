/**
 * Saves the original settings of devices, one small file for each device whose settings a port has changed. A port that
 * is killed cannot restore them; the next start does.
 *
 * The files are in the folder of runtime-folder.ts. A boot empties it and resets the settings. A file is complete or absent,
 * because it is written under another name and renamed. The store reads no file that another user could have written, and follows no link.
 *
 * Coordinator thread; synchronous, some tens of microseconds a call.
 */
import {
  closeSync,
  constants,
  fstatSync,
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
import { runtimeFolder } from './runtime-folder.ts';
import type { Shim } from './shim.ts';

/** The value before the port's first change, and the value that the port applied; both are JSON. */
export interface SavedSetting {
  readonly original: unknown;
  readonly applied: unknown;
}

export type SavedSettings = Readonly<Record<string, SavedSetting>>;

/** What settings are for: the merging of a NetVSC, or the configuration of a port's links. A VF's setup needs no name. */
export type StoredPurpose = 'netvsc' | 'netvsc-link' | 'vf-link';

const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const NO_ADDRESS = '00:00:00:00:00:00';
/** Far more than any file of ours: a redirection table has at most 4096 entries. */
const MAX_LENGTH = 256 * 1024;

export class SettingsStore {
  readonly #folder: string | undefined;
  /** Why this store cannot save or load; undefined if it can. */
  readonly refusal: string | undefined;
  readonly #namespace: string;
  readonly #boot: string;
  readonly #suffix: string;

  /**
   * @param folder holds the files; not used if there is a `refusal`
   * @param suffix of the files' names; '' for a VF's
   */
  constructor(namespace: string, folder: string | undefined, refusal?: string, suffix = '') {
    this.#namespace = namespace;
    this.#suffix = suffix;
    this.#boot = bootId();
    this.#folder = refusal === undefined ? folder : undefined;
    this.refusal = refusal;
  }

  /** The store for the network namespace of the calling thread. Makes the folder if it is missing. Never throws. */
  static open(shim: Shim, environment: NodeJS.ProcessEnv = process.env): SettingsStore {
    const { folder, refusal } = runtimeFolder(environment);
    return new SettingsStore(namespaceId(shim), folder, refusal);
  }

  /**
   * A store whose files have other names. A NetVSC and its VF have the same permanent MAC, a single card is both, and one
   * device may have settings of several purposes.
   */
  for(purpose: StoredPurpose): SettingsStore {
    return new SettingsStore(this.#namespace, this.#folder, this.refusal, `-${purpose}`);
  }

  /** The saved settings of this device; empty if there are none. Never throws. */
  load(link: Link): SavedSettings {
    const file = this.#file(link);
    if (file === undefined) return {};
    try {
      const { boot, ifindex, settings } = JSON.parse(readOwn(file)) as Record<string, unknown>;
      // Another ifindex is another device with the same identity, which has its own settings.
      if (boot !== this.#boot || ifindex !== link.ifindex || !isRecord(settings)) return {};
      return Object.fromEntries(
        Object.entries(settings).filter(([, one]) => isRecord(one) && 'original' in one && 'applied' in one),
      ) as SavedSettings;
    } catch {
      return {}; // no such file, or not one of ours
    }
  }

  /** The process that saved the settings of this device, if it is still running; otherwise 0. */
  owner(link: Link): number {
    const file = this.#file(link);
    if (file === undefined) return 0;
    try {
      const { pid, started } = JSON.parse(readOwn(file)) as Record<string, unknown>;
      return typeof pid === 'number' && startTimeOf(pid) === started ? pid : 0;
    } catch {
      return 0;
    }
  }

  /** Replaces the saved settings of this device. @throws Error: no space, read-only, not private */
  save(link: Link, settings: SavedSettings): void {
    const file = this.#file(link);
    if (file === undefined) throw new Error(this.refusal);
    const { pid } = process;
    const record = { boot: this.#boot, ifindex: link.ifindex, pid, started: startTimeOf(pid), settings };
    const temporary = `${file}.${pid}`;
    try {
      rmSync(temporary, { force: true });
      const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
      const fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
      try {
        const text = Buffer.from(JSON.stringify(record));
        for (let at = 0; at < text.length; ) at += writeSync(fd, text, at);
      } finally {
        closeSync(fd);
      }
      renameSync(temporary, file);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  }

  /** Removes the saved settings of this device, but not those of another device with the same MAC. Never throws. */
  forget(link: Link): void {
    const file = this.#file(link);
    if (file === undefined || this.#isOfAnother(link, file)) return;
    try {
      rmSync(file, { force: true });
    } catch {} // read-only by now: the next start finds the original settings, and removes the file
  }

  /** Whether this device can be recognized in every network namespace, and not only in its own. */
  recognizesEverywhere(link: Link): boolean {
    return identityOf(link) !== undefined;
  }

  /** Whether no settings are saved at all, as is usual. */
  get empty(): boolean {
    if (this.#folder === undefined) return true;
    try {
      return !readdirSync(this.#folder).some((name) => name.endsWith('.json'));
    } catch {
      return true;
    }
  }

  /** A VF and its NetVSC have one MAC, so they find the same file. A damaged file belongs to neither. */
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
    const name = identityOf(link) ?? `netns-${this.#namespace}-${link.ifindex}`;
    return join(this.#folder, `${name}${this.#suffix}.json`);
  }
}

/**
 * The permanent MAC, which a device keeps in every namespace, or its place on a bus. Virtual devices have neither, so
 * their ifindex and namespace identify them.
 */
function identityOf({ permanentAddress, parentBus, parentDevice }: Link): string | undefined {
  if (permanentAddress !== '' && permanentAddress !== NO_ADDRESS) {
    return `mac-${permanentAddress.replaceAll(':', '-')}`;
  }
  const place = `${parentBus}-${parentDevice}`;
  return parentDevice !== '' && /^[\w.:-]+$/.test(place) ? `bus-${place}` : undefined;
}

/** The cookie of the thread's network namespace, which the kernel never reuses (Linux 5.14), or else its inode. */
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

/** @throws Error if the file is missing, or is not a regular file of this user that only this user can write */
function readOwn(file: string): string {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const { uid, mode, nlink, size } = fstatSync(fd);
    const isRegular = (mode & constants.S_IFMT) === constants.S_IFREG && nlink === 1 && size <= MAX_LENGTH;
    if (!isRegular || uid !== process.geteuid?.() || (mode & 0o022) !== 0)
      throw new Error(`${file} is not ours`);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/** In clock ticks since boot. With the process id it identifies a process uniquely. '' if there is no such process. */
function startTimeOf(pid: number): string {
  try {
    // The second field, the program's name in brackets, may itself contain spaces and brackets.
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
