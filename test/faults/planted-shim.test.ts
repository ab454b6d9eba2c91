/**
 * A shim that another user could have put into the cache is not loaded. The package here has none of its own, and what
 * is planted says in a file when it is loaded.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { asNobody, NOBODY, publicCopy, ROOT } from '../support/nobody.ts';
import { type Outcome, Run, temporary } from '../support/process.ts';

const STRANGER = NOBODY - 1;

/** Name of the cached file for this source. */
const cachedName = (() => {
  const digest = createHash('sha256').update(process.arch);
  for (const file of ['shim.c', 'layout.h', 'syscall.h', 'Makefile']) {
    digest.update(readFileSync(join(ROOT, 'native', file)));
  }
  return `${digest.digest('hex').slice(0, 16)}.so`;
})();

/** A package without a shim for this machine. */
class Unbuilt {
  readonly folder = temporary();
  readonly cache = join(this.folder, 'cache');
  readonly marker = join(this.folder, 'loaded');
  /** What a stranger has compiled. */
  readonly library = join(this.folder, 'planted.so');
  readonly list = [publicCopy().node, join(this.folder, 'package/dist/src/cli/main.js'), 'list', '--json'];

  constructor() {
    for (const part of ['dist/src', 'native', 'package.json']) {
      cpSync(join(ROOT, part), join(this.folder, 'package', part), { recursive: true });
    }
    execFileSync('chmod', ['-R', 'a+rX,go-w', join(this.folder, 'package')]);
    symlinkSync(join(publicCopy().root, 'node_modules'), join(this.folder, 'package/node_modules'));
    const source = join(ROOT, 'test/fixtures/planted.c');
    const flags = ['-shared', '-fPIC', `-DMARKER="${this.marker}"`];
    execFileSync('cc', [...flags, '-o', this.library, source]);
    mkdirSync(this.cache);
  }

  get folderOfCache(): string {
    return join(this.cache, 'twinpath');
  }

  get file(): string {
    return join(this.folderOfCache, cachedName);
  }

  /** Puts the library there, folders included. */
  context(file = this.file, owner = NOBODY, mode = 0o755): void {
    mkdirSync(dirname(file), { recursive: true });
    copyFileSync(this.library, file);
    chownSync(file, owner, owner);
    chmodSync(file, mode);
  }

  outcome(env: NodeJS.ProcessEnv = { XDG_CACHE_HOME: this.cache }, command = this.list): Promise<Outcome> {
    return new Run(command, { env: { PATH: process.env.PATH, ...env } }).outcome;
  }

  async refuses(path: string, words: RegExp, how: Promise<Outcome> = this.outcome()): Promise<void> {
    const { code, stdout, stderr } = await how;
    expect(existsSync(this.marker)).toBe(false);
    expect(code, stderr).toBe(1);
    expect(JSON.parse(stdout).error).toMatchObject({ code: 'ERR_SHIM_LOAD', device: path });
    expect(stderr).toMatch(words);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  }
}

it('what is planted here is loaded where root alone can have put it', async () => {
  const unbuilt = new Unbuilt();
  unbuilt.context(unbuilt.file, 0);
  const { code, stderr } = await unbuilt.outcome();
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('ABI 0') });
  expect(existsSync(unbuilt.marker)).toBe(true);
});

describe('root does not load a shim from the cache', () => {
  it('that another user owns', async () => {
    const unbuilt = new Unbuilt();
    unbuilt.context();
    await unbuilt.refuses(unbuilt.file, /user 65534 owns it/);
  });

  it.each([
    ['the group', 0o775],
    ['others', 0o757],
  ])('that %s may write', async (_, mode) => {
    const unbuilt = new Unbuilt();
    unbuilt.context(unbuilt.file, 0, mode);
    await unbuilt.refuses(unbuilt.file, /others may write it/);
  });

  it('that is a symbolic link, to whomever’s file', async () => {
    for (const owner of [0, NOBODY]) {
      const unbuilt = new Unbuilt();
      unbuilt.context(join(unbuilt.folder, 'elsewhere/x.so'), owner);
      mkdirSync(unbuilt.folderOfCache);
      symlinkSync(join(unbuilt.folder, 'elsewhere/x.so'), unbuilt.file);
      await unbuilt.refuses(unbuilt.file, /symbolic link/);
    }
  });

  it('that has a second name', async () => {
    for (const [owner, words] of [
      [NOBODY, /user 65534 owns it/],
      [0, /2 names/],
    ] as const) {
      const unbuilt = new Unbuilt();
      unbuilt.context(join(unbuilt.folder, 'elsewhere/x.so'), owner);
      mkdirSync(unbuilt.folderOfCache);
      linkSync(join(unbuilt.folder, 'elsewhere/x.so'), unbuilt.file);
      await unbuilt.refuses(unbuilt.file, words);
    }
  });

  it('in a folder that another user owns, at any level', async () => {
    for (const which of ['cache', 'folderOfCache'] as const) {
      const unbuilt = new Unbuilt();
      unbuilt.context(unbuilt.file, 0);
      chownSync(unbuilt[which], NOBODY, NOBODY);
      await unbuilt.refuses(unbuilt[which], /user 65534 owns it/);
    }
  });

  it('in a folder that others may write, at any level, unless it is sticky above our own', async () => {
    for (const which of ['cache', 'folderOfCache'] as const) {
      for (const mode of [0o775, 0o777]) {
        const unbuilt = new Unbuilt();
        unbuilt.context(unbuilt.file, 0);
        chmodSync(unbuilt[which], mode);
        await unbuilt.refuses(unbuilt[which], /others may write it/);
      }
    }
    const unbuilt = new Unbuilt();
    chmodSync(unbuilt.cache, 0o1777);
    expect(await unbuilt.outcome()).toMatchObject({ code: 0 });
  });

  it('through a symbolic link of another user, or into another user’s folder', async () => {
    const theirs = new Unbuilt();
    unbuiltLink(theirs, NOBODY, 0);
    await theirs.refuses(theirs.folderOfCache, /user 65534 owns it/);
    const into = new Unbuilt();
    unbuiltLink(into, 0, NOBODY);
    await into.refuses(join(into.folder, 'elsewhere'), /user 65534 owns it/);
    const ours = new Unbuilt();
    symlinkSync(ours.cache, join(ours.folder, 'link'));
    expect(await ours.outcome({ XDG_CACHE_HOME: join(ours.folder, 'link') })).toMatchObject({ code: 0 });
    expect(existsSync(ours.file)).toBe(true);
  });

  it('and makes nothing in a folder that it would not load from', async () => {
    const unbuilt = new Unbuilt();
    chownSync(unbuilt.cache, NOBODY, NOBODY);
    await unbuilt.refuses(unbuilt.cache, /user 65534 owns it/);
    expect(readdirSync(unbuilt.cache)).toEqual([]);
  });

  it.each(['', '.', 'cache', './cache'])(
    'named relative to the folder it runs in: XDG_CACHE_HOME="%s"',
    async (relative) => {
      const unbuilt = new Unbuilt();
      const home = join(unbuilt.folder, 'home');
      mkdirSync(home);
      for (const below of ['', 'cache']) {
        unbuilt.context(join(unbuilt.folder, 'work', below, 'twinpath', cachedName));
      }
      const within = ['env', '-C', join(unbuilt.folder, 'work'), ...unbuilt.list];
      const outcome = await unbuilt.outcome({ XDG_CACHE_HOME: relative, HOME: home }, within);
      expect(outcome).toMatchObject({ code: 0, stderr: '' });
      expect(existsSync(unbuilt.marker)).toBe(false);
      expect(existsSync(join(home, '.cache/twinpath', cachedName))).toBe(true);
    },
  );

  it('in the home of the user who called sudo, but in its own', async () => {
    const unbuilt = new Unbuilt();
    const home = join(unbuilt.folder, 'home');
    unbuilt.context(join(home, '.cache/twinpath', cachedName));
    execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, home]);
    // What root's own home holds is not ours to change: it is another one here.
    const own = execFileSync('sh', ['-c', 'getent passwd 0 | cut -d: -f6'], { encoding: 'utf8' }).trim();
    const cover = `mount -t tmpfs -o mode=700 none ${own} && "$@" && ls ${own}/.cache/twinpath >&2`;
    const command = ['unshare', '--mount', 'sh', '-c', cover, 'sh', ...unbuilt.list];
    const outcome = await unbuilt.outcome({ HOME: home }, command);
    expect(outcome).toMatchObject({ code: 0, stderr: `${cachedName}\n` });
    expect(existsSync(unbuilt.marker)).toBe(false);
  });
});

describe('an ordinary user does not load a shim', () => {
  it('of another ordinary user, but of root', async () => {
    const unbuilt = new Unbuilt();
    unbuilt.context(unbuilt.file, STRANGER);
    const list = asNobody(unbuilt.list);
    await unbuilt.refuses(
      unbuilt.file,
      /user 65533 owns it, and this is user 65534/,
      unbuilt.outcome(undefined, list),
    );
    const shared = new Unbuilt();
    expect(await shared.outcome()).toMatchObject({ code: 0 });
    chmodSync(shared.folderOfCache, 0o755);
    chmodSync(shared.file, 0o555);
    expect(await shared.outcome(undefined, asNobody(shared.list))).toMatchObject({ code: 0, stderr: '' });
  });
});

describe('a shim in the package', () => {
  it('is not loaded if a stranger could add it to a sticky folder', async () => {
    for (const place of ['build', `prebuilds/linux-${process.arch}`]) {
      const unbuilt = new Unbuilt();
      const file = join(unbuilt.folder, 'package', place, 'shim.so');
      unbuilt.context(file);
      await unbuilt.refuses(file, /user 65534 owns it/);
      chownSync(file, 0, 0);
      chownSync(dirname(file), NOBODY, NOBODY);
      await unbuilt.refuses(dirname(file), /user 65534 owns it/);
    }
  });

  it('is loaded by root from a clone of another user, whose it is like the rest', async () => {
    const unbuilt = new Unbuilt();
    const file = join(unbuilt.folder, 'package/build/shim.so');
    expect(await unbuilt.outcome()).toMatchObject({ code: 0 });
    mkdirSync(dirname(file));
    renameSync(unbuilt.file, file);
    execFileSync('chown', ['-R', `${NOBODY}:${NOBODY}`, join(unbuilt.folder, 'package')]);
    chmodSync(unbuilt.cache, 0o777);
    expect(await unbuilt.outcome()).toMatchObject({ code: 0, stderr: '' });
  });
});

it('the cache is made for its user alone, whatever the umask, and holds one file', async () => {
  const unbuilt = new Unbuilt();
  const cache = join(unbuilt.folder, 'new');
  const open = ['sh', '-c', 'umask 0 && exec "$@"', 'sh', ...unbuilt.list];
  expect(await unbuilt.outcome({ XDG_CACHE_HOME: cache }, open)).toMatchObject({ code: 0 });
  const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);
  expect([mode(cache), mode(join(cache, 'twinpath'))]).toEqual(['700', '700']);
  expect(readdirSync(join(cache, 'twinpath'))).toEqual([cachedName]);
  expect(mode(join(cache, 'twinpath', cachedName))).toBe('500');
  expect(lstatSync(join(cache, 'twinpath', cachedName))).toMatchObject({ uid: 0, nlink: 1 });
});

/** The cache's folder is a link of that owner's to a folder of that owner's, with a context of root's in it. */
function unbuiltLink(unbuilt: Unbuilt, ofLink: number, ofFolder: number): void {
  const elsewhere = join(unbuilt.folder, 'elsewhere');
  unbuilt.context(join(elsewhere, cachedName), 0);
  chownSync(elsewhere, ofFolder, ofFolder);
  symlinkSync(elsewhere, unbuilt.folderOfCache);
  execFileSync('chown', ['-h', `${ofLink}:${ofLink}`, unbuilt.folderOfCache]);
}
