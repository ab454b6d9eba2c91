/**
 * The folder for what Twinpath keeps while processes run: the original settings of devices (settings-store.ts) and the control
 * sockets of ports (src/control). Only its owner can enter it: /run/twinpath for root, else $XDG_RUNTIME_DIR/twinpath. A boot
 * empties both.
 *
 * Any thread; synchronous.
 */
import { constants, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isRoot } from './machine.ts';

export interface RuntimeFolder {
  readonly folder: string | undefined;
  /** Why the folder cannot be used; undefined if it can. */
  readonly refusal: string | undefined;
}

/** Makes the folder if it is missing. Never throws. */
export function runtimeFolder(environment: NodeJS.ProcessEnv = process.env): RuntimeFolder {
  const parent = isRoot() ? '/run' : userFolder(environment);
  if (parent === undefined) {
    const refusal =
      'this user has no folder for running processes: XDG_RUNTIME_DIR is not set, or not the user’s own';
    return { folder: undefined, refusal };
  }
  const folder = join(parent, 'twinpath');
  try {
    makeFolder(folder);
    return { folder, refusal: whyNotPrivate(folder) };
  } catch (error) {
    return { folder: undefined, refusal: (error as Error).message };
  }
}

/**
 * The folders of other users in which ports may have control sockets, for root: `/run/user/UID/twinpath`, and that of each
 * unit of deploy/systemd, `/run/twinpath-DEVICE/twinpath`. Only those that nobody but their owner can enter. Never throws.
 */
export function foreignFolders(run = '/run'): string[] {
  if (!isRoot()) return [];
  const names = namesIn(run).filter((name) => name.startsWith('twinpath-'));
  const users = namesIn(join(run, 'user')).map((uid) => join('user', uid));
  return [...names, ...users]
    .map((parent) => join(run, parent))
    .filter((parent) => {
      try {
        // A link in its place could lead root to another user's files.
        const { uid } = lstatSync(parent);
        return whyNotPrivate(join(parent, 'twinpath'), uid) === undefined;
      } catch {
        return false;
      }
    })
    .map((parent) => join(parent, 'twinpath'));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Not `recursive`: a missing parent must not be made here. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, 0o700);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** Why other users can use this folder; undefined if they cannot. */
function whyNotPrivate(folder: string, owner = process.geteuid?.()): string | undefined {
  const { uid, mode } = lstatSync(folder);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR) return `${folder} is not a folder`;
  if (uid !== owner) return `${folder} belongs to another user`;
  return (mode & 0o077) === 0 ? undefined : `other users can use ${folder}: its mode must be 700`;
}

/** $XDG_RUNTIME_DIR, if it is as its specification requires: absolute, the user's own, mode 0700. */
function userFolder({ XDG_RUNTIME_DIR: folder }: NodeJS.ProcessEnv): string | undefined {
  if (folder === undefined || !folder.startsWith('/')) return undefined;
  try {
    return whyNotPrivate(folder) === undefined ? folder : undefined;
  } catch {
    return undefined;
  }
}
