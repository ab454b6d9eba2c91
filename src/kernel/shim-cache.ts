/**
 * Compiles the shim on first use into the user's cache (XDG Base Directory Specification), under a name that changes with
 * its source. The shim runs with this process's rights, so trust.ts checks the file and its folders.
 *
 * Most packages have their shim: what only this file needs of Node is loaded when it compiles, and not by every thread.
 */
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

/** Path of the shim compiled from the sources in that folder. @throws ERR_SHIM_MISSING, ERR_SHIM_LOAD */
export function cachedShim(source: string): string {
  const caches = cacheFolder();
  const folder = join(caches, 'twinpath');
  const file = join(folder, nameOf(source));
  const failed = (detail: string): never => {
    throw new TwinpathError('ERR_SHIM_MISSING', {
      device: file,
      detail,
      hint: 'It needs a C compiler and make (Debian: apt-get install gcc make), and a folder that can be written: XDG_CACHE_HOME, or else ~/.cache.',
    });
  };
  try {
    refuse(distrustFolder(folder)); // before anything is made in it, and again after that
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
 * XDG_CACHE_HOME, unless it is empty or relative, as the specification says. Otherwise .cache in the home folder: HOME if
 * it belongs to this user (sudo may keep the caller's), or else the home folder of the user database.
 */
function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { XDG_CACHE_HOME = '', HOME = '' } = environment;
  if (isAbsolute(XDG_CACHE_HOME)) return XDG_CACHE_HOME;
  const own = isAbsolute(HOME) && statSync(HOME, { throwIfNoEntry: false })?.uid === process.geteuid!();
  const home = own ? HOME : homeOfUser();
  return join(home, '.cache');
}

/** From the user database. */
function homeOfUser(): string {
  try {
    const { homedir } = userInfo();
    if (isAbsolute(homedir)) return homedir;
  } catch {} // the database does not have this user
  throw new TwinpathError('ERR_SHIM_MISSING', {
    detail: 'this user has no home folder for it',
    hint: 'Set XDG_CACHE_HOME to a folder that only this user can write.',
  });
}

/** A name that changes with the source. @throws ERR_SHIM_MISSING if the source cannot be read */
function nameOf(source: string): string {
  const { createHash } = process.getBuiltinModule('node:crypto');
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

/** Compiles in a temporary folder, then renames: two first uses at the same time both end with a complete file. */
function compile(source: string, folder: string, file: string, failed: (detail: string) => never): void {
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const temporary = mkdtempSync(join(folder, '.building-'));
  try {
    const made = join(temporary, 'shim.so');
    const { status, error, stderr } = spawnSync('make', ['-s', '-C', source, `OUT=${made}`], {
      encoding: 'utf8',
    });
    if (error) failed(`cannot run make: ${error.message}`);
    if (status !== 0) failed(firstCause(stderr));
    chmodSync(made, 0o500);
    renameSync(made, file);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The first line that names a cause. The lines after it only repeat that a command failed. */
function firstCause(stderr: string): string {
  const lines = stderr
    .split('\n')
    .filter((line) => !/^\s*$|^make(\[\d+\])?: \*\*\*|: In function /.test(line));
  return lines[0]?.trim() ?? 'make failed';
}

/** Not `recursive`: Node would never return if mkdir answers ENOENT, as it does in /proc. */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error; // EEXIST: another first use at the same time
  }
}
