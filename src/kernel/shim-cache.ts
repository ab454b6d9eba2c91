/**
 * The shim, compiled on first use into the user's cache (XDG Base Directory Specification) under a name that changes
 * with its source. It runs with this process's rights: see trust.ts for what is loaded from there, and what is not.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { TwinpathError } from '../errors.ts';
import { distrustFile, distrustFolder, refuse } from './trust.ts';

/** Path of the shim made of the sources in that folder. @throws ERR_SHIM_MISSING, ERR_SHIM_LOAD */
export function cachedShim(source: string): string {
  const caches = cacheFolder();
  const folder = join(caches, 'twinpath');
  const file = join(folder, nameOf(source));
  const failed = (detail: string): never => {
    throw new TwinpathError('ERR_SHIM_MISSING', {
      device: file,
      detail,
      hint: 'It takes a C compiler and make (Debian: apt-get install gcc make), and a folder that can be written to: XDG_CACHE_HOME, else ~/.cache.',
    });
  };
  try {
    refuse(distrustFolder(folder)); // before anything is made there, and what was made
    for (const path of [caches, folder]) makeFolder(path);
    refuse(distrustFolder(folder));
    if (!existsSync(file)) compile(source, folder, file, failed);
    refuse(distrustFile(file));
  } catch (error) {
    if (error instanceof TwinpathError) throw error;
    return failed((error as Error).message);
  }
  return file;
}

/**
 * XDG_CACHE_HOME, which does not count if it is empty or relative: so says the specification. Else that in the home
 * folder: HOME's if it is this user's own (sudo may keep the caller's), or else that of the user database.
 */
function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { XDG_CACHE_HOME = '', HOME = '' } = environment;
  if (isAbsolute(XDG_CACHE_HOME)) return XDG_CACHE_HOME;
  const own = isAbsolute(HOME) && statSync(HOME, { throwIfNoEntry: false })?.uid === process.geteuid!();
  const home = own ? HOME : homeOfUser();
  return join(home, '.cache');
}

/** By the user database. */
function homeOfUser(): string {
  try {
    const { homedir } = userInfo();
    if (isAbsolute(homedir)) return homedir;
  } catch {} // the user is not in it
  throw new TwinpathError('ERR_SHIM_MISSING', {
    detail: 'this user has no home folder to keep it in',
    hint: 'Set XDG_CACHE_HOME to a folder that only this user can write.',
  });
}

/** Changes with the source. @throws ERR_SHIM_MISSING when that cannot be read */
function nameOf(source: string): string {
  const digest = createHash('sha256').update(process.arch);
  try {
    for (const name of ['shim.c', 'layout.h', 'syscall.h', 'Makefile']) {
      digest.update(readFileSync(join(source, name)));
    }
  } catch (error) {
    throw new TwinpathError('ERR_SHIM_MISSING', { device: source, detail: (error as Error).message });
  }
  return `${digest.digest('hex').slice(0, 16)}.so`;
}

/** In a folder of its own, then renamed into place: two first uses at once both end with a whole one. */
function compile(source: string, folder: string, file: string, failed: (detail: string) => never): void {
  const apart = mkdtempSync(join(folder, '.building-'));
  try {
    const made = join(apart, 'shim.so');
    const { status, error, stderr } = spawnSync('make', ['-s', '-C', source, `OUT=${made}`], {
      encoding: 'utf8',
    });
    if (error) failed(`cannot run make: ${error.message}`);
    if (status !== 0) failed(complaint(stderr));
    chmodSync(made, 0o500);
    renameSync(made, file);
  } finally {
    rmSync(apart, { recursive: true, force: true });
  }
}

/** The first line that tells a cause: after it the tools only tell each other that something failed. */
function complaint(stderr: string): string {
  const lines = stderr
    .split('\n')
    .filter((line) => !/^\s*$|^make(\[\d+\])?: \*\*\*|: In function /.test(line));
  return lines[0]?.trim() ?? 'make failed';
}

/** Not `recursive`: Node never returns from that where mkdir answers ENOENT, as /proc does. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // two first uses at once
  }
}
