/** What a fresh clone depends on, and what is packed: the files that npm reads before any of our code runs. */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const read = (file: string) => JSON.parse(readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8'));
const lock: { packages: Readonly<Record<string, Entry>> } = read('package-lock.json');
const entries = Object.entries(lock.packages);

describe('the lock file', () => {
  test('names every optional dependency, of other platforms too, or npm ci refuses it', () => {
    // `npm install` leaves those out that the registry in use does not offer: enter them by hand then.
    const missing = entries.flatMap(([at, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter(
        (name) => lock.packages[`node_modules/${name}`] === undefined && !nested(at, name),
      ),
    );
    expect(missing).toEqual([]);
  });

  test('names no registry', () => {
    expect(entries.filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
  });
});

describe('the tools of perf/', () => {
  const tools: typeof lock = read('perf/package-lock.json');

  test('are locked, and their lock file names no registry', () => {
    const resolved = Object.entries(tools.packages).filter(([, entry]) => entry.resolved !== undefined);
    expect(resolved).toEqual([]);
    expect(tools.packages['node_modules/clinic']?.version).toBe(
      read('perf/package.json').dependencies.clinic,
    );
  });

  test('are not installed with the package', () => {
    expect(entries.filter(([at]) => /clinic/.test(at))).toEqual([]);
  });
});

describe('the package', () => {
  const manifest = read('package.json');

  test('runs no install script at its users', () => {
    for (const script of ['preinstall', 'install', 'postinstall']) {
      expect(manifest.scripts).not.toHaveProperty(script);
    }
  });

  test('installs on every platform, where handlers are written and tested', () => {
    expect(manifest).not.toHaveProperty('os');
  });

  let packed: string[] = [];
  beforeAll(() => {
    const { stdout } = spawnSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], {
      cwd: join(import.meta.dirname, '../../..'),
      encoding: 'utf8',
    });
    packed = JSON.parse(stdout)[0].files.map(({ path }: { path: string }) => path);
  });

  test('has the headers and libraries for handlers in WebAssembly', () => {
    const wanted = ['twinpath.h', 'twinpath.rs', 'twinpath.ts'].map((name) => `wasm/include/${name}`);
    expect(packed).toEqual(expect.arrayContaining([...wanted, 'docs/wasm-abi.md']));
  });

  test('has the live page with its chart library and its licence, which it needs when it is built alone', () => {
    const wanted = [
      'page.html',
      'page.css',
      'main.js',
      'uPlot.iife.min.js',
      'uPlot.min.css',
      'uPlot.LICENSE.txt',
    ];
    expect(packed).toEqual(expect.arrayContaining(wanted.map((name) => `dist/src/page/browser/${name}`)));
    const served = readFileSync(
      new URL('../../../dist/src/page/browser/uPlot.LICENSE.txt', import.meta.url),
      'utf8',
    );
    expect(served).toMatch(/MIT License[\s\S]*Leon Sorokin/);
  });

  test('has the source that its declaration maps name', () => {
    const maps = packed.filter((path) => path.endsWith('.d.ts.map'));
    const sources = maps.flatMap((path) =>
      read(path).sources.map((source: string) => join(path, '..', source)),
    );
    expect(sources.length).toBeGreaterThan(100);
    expect(sources.filter((source) => !packed.includes(source))).toEqual([]);
  });

  test('has the modules that the source maps of its bundles name', () => {
    const maps = packed.filter((path) => path.endsWith('.js.map'));
    const sources = maps.flatMap((path) =>
      read(path).sources.map((source: string) => join(path, '..', source)),
    );
    expect(maps).toEqual(
      expect.arrayContaining(['dist/workers/queue.js.map', 'dist/src/cli/program.js.map']),
    );
    expect(sources.filter((source) => !packed.includes(source))).toEqual([]);
    expect(packed.filter((path) => path.endsWith('.mjs') && path.startsWith('workers/'))).toEqual([]);
  });

  test('has every file that its README links to', () => {
    const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
    const links = [...readme.matchAll(/\]\(([^)#\s]+)/g)].map(([, target]) => target!);
    const local = links
      .filter((target) => !/^[a-z]+:/.test(target))
      .map((target) => target.replace(/\/$/, ''));
    expect(local.length).toBeGreaterThan(3);
    const missing = local.filter((target) => !packed.some((path) => `${path}/`.startsWith(`${target}/`)));
    expect(missing).toEqual([]);
  });

  test('needs @types/node for its types alone, so that JavaScript is not asked for it', () => {
    expect(manifest.peerDependencies).toEqual({ '@types/node': '>=20' });
    expect(manifest.peerDependenciesMeta).toEqual({ '@types/node': { optional: true } });
  });

  test('depends on nothing but koffi and piscina', () => {
    expect(Object.keys(manifest.dependencies)).toEqual(['koffi', 'piscina']);
  });
});

describe('packing', () => {
  const OTHER = process.arch === 'x64' ? 'aarch64-linux-gnu-gcc' : 'x86_64-linux-gnu-gcc';

  /** Builds the shims where these compilers are, and no others; they compile nothing. */
  function prebuild(compilers: readonly string[], ...args: string[]) {
    const folder = mkdtempSync(join(tmpdir(), 'twinpath-prebuild-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    for (const tool of ['make', 'mkdir', 'mv', 'uname']) {
      symlinkSync(spawnSync('which', [tool], { encoding: 'utf8' }).stdout.trim(), join(bin, tool));
    }
    const compiler = '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && : >"$2"; shift; done\n';
    for (const name of compilers) writeFileSync(join(bin, name), compiler, { mode: 0o755 });
    cpSync(new URL('../../../native', import.meta.url), join(folder, 'native'), { recursive: true });
    const { status, stderr } = spawnSync(process.execPath, [join(folder, 'native/prebuild.mjs'), ...args], {
      ...{ encoding: 'utf8', env: { PATH: bin } },
    });
    const built = ['x64', 'arm64'].filter((arch) =>
      existsSync(join(folder, `prebuilds/linux-${arch}/shim.so`)),
    );
    return { status, stderr, built };
  }

  test('makes the shims of both architectures', () => {
    expect(prebuild(['cc', OTHER])).toMatchObject({ status: 0, built: ['x64', 'arm64'] });
  });

  test('fails without the compiler of either architecture, and names it', () => {
    expect(prebuild(['cc'])).toMatchObject({ status: 1, stderr: expect.stringContaining(OTHER) });
    expect(prebuild([OTHER])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('not built: cc is not installed'),
    });
  });

  test('accepts a shim for its own architecture alone only with --available', () => {
    expect(prebuild(['cc'], '--available')).toMatchObject({ status: 0, built: [process.arch] });
    expect(prebuild([OTHER], '--available').status).toBe(1);
  });
});

function nested(at: string, name: string): boolean {
  return lock.packages[`${at}/node_modules/${name}`] !== undefined;
}
