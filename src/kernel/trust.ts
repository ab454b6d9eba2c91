/**
 * Whether native code at a path can only have been put there by root or by this process's own user.
 *
 * As OpenSSH looks at a file of keys (misc.c, safe_path): each folder from / on belongs to root or to us and cannot
 * be written by anybody else, and each symbolic link on the way belongs to root or to us. Then nobody else can change
 * what the path means between the look and the use of it. An ACL that lets others write shows in the group's bits.
 */
import { lstatSync, readlinkSync, type Stats, statSync } from 'node:fs';
import { dirname, isAbsolute, resolve } from 'node:path';
import { TwinpathError } from '../errors.ts';

const GROUP_OR_OTHERS = 0o022;
const STICKY = 0o1000;
/** As the kernel has it (path_resolution(7)). */
const MAX_LINKS = 40;

interface Distrust {
  /** The part of the path that others control. */
  readonly path: string;
  /** Why, as a clause: 'user 65534 owns it'. */
  readonly reason: string;
}

/** @throws ERR_SHIM_LOAD if there is something to distrust */
export function refuse(distrust: Distrust | undefined): void {
  if (distrust === undefined) return;
  const { path, reason } = distrust;
  throw new TwinpathError('ERR_SHIM_LOAD', {
    device: path,
    detail: reason,
    hint: 'Native code is loaded only from where nobody but root and this user can have put it. Remove that, or set XDG_CACHE_HOME to a folder that only this user can write.',
  });
}

/** What makes this folder, or one it is in, unfit; what is not there yet is fit. @throws what lstat(2) throws */
export function distrustFolder(path: string): Distrust | undefined {
  let here = '/';
  const left = parts(path);
  for (let links = 0; ; ) {
    const stats = lstatSync(here, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    const reason = foreign(stats);
    if (reason !== undefined) return { path: here, reason };
    if (stats.isSymbolicLink()) {
      if (++links > MAX_LINKS) return { path: here, reason: 'it leads through too many symbolic links' };
      const target = readlinkSync(here);
      left.unshift(...parts(target));
      here = isAbsolute(target) ? '/' : resolve(here, '..');
      continue;
    }
    // In a sticky folder (/tmp) others may add names; renaming and removing is up to each name's owner.
    if (stats.isDirectory() && (stats.mode & GROUP_OR_OTHERS) !== 0 && (stats.mode & STICKY) === 0) {
      return { path: here, reason: `others may write it (mode ${octal(stats)})` };
    }
    const next = left.shift();
    if (next === undefined) return undefined;
    here = resolve(here, next);
  }
}

/** What makes this file in a trusted folder unfit to be loaded. @throws what lstat(2) throws */
export function distrustFile(path: string): Distrust | undefined {
  const stats = lstatSync(path);
  const reason = foreign(stats) ?? irregular(stats);
  return reason === undefined ? undefined : { path, reason };
}

/**
 * What makes this file of a package unfit: a stranger's, who could add a name there (the folder is sticky). Otherwise
 * who can write it can write the package's JavaScript as well, which runs already.
 */
export function distrustPart(path: string, owner: number): Distrust | undefined {
  for (const one of [dirname(path), path]) {
    const reason = foreign(statSync(one), owner);
    if (reason !== undefined) return { path: one, reason };
  }
  return undefined;
}

function foreign({ uid }: Stats, owner = 0): string | undefined {
  const user = process.geteuid!();
  return [0, user, owner].includes(uid) ? undefined : `user ${uid} owns it, and this is user ${user}`;
}

function irregular(stats: Stats): string | undefined {
  if (!stats.isFile()) return `it is a ${stats.isSymbolicLink() ? 'symbolic link' : 'thing'} and no file`;
  if ((stats.mode & GROUP_OR_OTHERS) !== 0) return `others may write it (mode ${octal(stats)})`;
  // Who has another name for it may have made it, and may have kept it open for writing.
  return stats.nlink === 1 ? undefined : `it has ${stats.nlink} names (hard links)`;
}

const parts = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

const octal = ({ mode }: Stats): string => (mode & 0o7777).toString(8);
