/**
 * Checks that only root or this process's user can have put native code at a path.
 *
 * OpenSSH checks a key file in the same way (misc.c, safe_path): each folder from / on belongs to root or to us and only
 * its owner can write it, and each symbolic link on the way belongs to root or to us. Then no other user can change the
 * path between the check and the use. An ACL that lets others write shows in the group's bits.
 */
import { lstatSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { TwinpathError } from '../errors.ts';

const GROUP_OR_OTHERS = 0o022;
const STICKY = 0o1000;
/** The kernel's limit (path_resolution(7)). */
const MAX_LINKS = 40;

interface Distrust {
  /** The part of the path that another user controls. */
  readonly path: string;
  /** Why, as a clause: 'user 65534 owns it'. */
  readonly reason: string;
}

/** @throws ERR_SHIM_LOAD unless `distrust` is undefined */
export function refuse(distrust: Distrust | undefined): void {
  if (distrust === undefined) return;
  const { path, reason } = distrust;
  throw new TwinpathError('ERR_SHIM_LOAD', {
    device: path,
    detail: reason,
    hint: 'Native code is loaded only from files that no user but root and this one can have put there. Remove it, or set XDG_CACHE_HOME to a folder that only this user can write.',
  });
}

/** Checks a folder and all folders above it; a missing one is fine. @throws what lstat(2) throws */
export function distrustFolder(path: string): Distrust | undefined {
  let here = '/';
  const left = parts(path);
  for (let links = 0; ; ) {
    const stats = lstatSync(here, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    const reason = foreignOwner(stats);
    if (reason !== undefined) return { path: here, reason };
    if (stats.isSymbolicLink()) {
      if (++links > MAX_LINKS) return { path: here, reason: 'it has too many symbolic links' };
      const target = readlinkSync(here);
      left.unshift(...parts(target));
      here = isAbsolute(target) ? '/' : resolve(here, '..');
      continue;
    }
    // In a sticky folder (/tmp) other users may add names, but only a name's owner may rename or remove it.
    if (stats.isDirectory() && (stats.mode & GROUP_OR_OTHERS) !== 0 && (stats.mode & STICKY) === 0) {
      return { path: here, reason: `others may write it (mode ${octal(stats)})` };
    }
    const next = left.shift();
    if (next === undefined) return undefined;
    here = resolve(here, next);
  }
}

/** Checks a file in a trusted folder. @throws what lstat(2) throws */
export function distrustFile(path: string): Distrust | undefined {
  const stats = lstatSync(path);
  const reason = foreignOwner(stats) ?? unfitFile(stats);
  return reason === undefined ? undefined : { path, reason };
}

/**
 * Checks a file of the package. Only the owner matters: in a sticky folder a third user could have added the file. Any
 * other user who can write it can also write the package's JavaScript, which is already running.
 */
export function distrustPackageFile(path: string, owner: number): Distrust | undefined {
  for (const one of [dirname(path), path]) {
    const reason = foreignOwner(statSync(one), owner);
    if (reason !== undefined) return { path: one, reason };
  }
  return undefined;
}

function foreignOwner({ uid }: Stats, owner = 0): string | undefined {
  const user = process.geteuid!();
  return [0, user, owner].includes(uid) ? undefined : `user ${uid} owns it, and this is user ${user}`;
}

function unfitFile(stats: Stats): string | undefined {
  if (!stats.isFile()) return `it is ${stats.isSymbolicLink() ? 'a symbolic link' : 'not a regular file'}`;
  if ((stats.mode & GROUP_OR_OTHERS) !== 0) return `others may write it (mode ${octal(stats)})`;
  // The user who made the other name may have made the file too, and may still have it open for writing.
  return stats.nlink === 1 ? undefined : `it has ${stats.nlink} names (hard links)`;
}

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

const octal = ({ mode }: Stats): string => (mode & 0o7777).toString(8);
