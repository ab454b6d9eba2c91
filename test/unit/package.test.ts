/** What a fresh clone depends on: the files that npm reads before any of our code runs. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

interface Entry {
  readonly version?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const read = (file: string) => JSON.parse(readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8'));
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

  test('are not what an ordinary install brings', () => {
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

  test('has what a handler in WebAssembly is written with', () => {
    expect(manifest.files).toEqual(expect.arrayContaining(['wasm/include', 'docs/wasm-abi.md']));
  });

  test('depends on nothing but koffi and piscina', () => {
    expect(Object.keys(manifest.dependencies)).toEqual(['koffi', 'piscina']);
  });
});

function nested(at: string, name: string): boolean {
  return lock.packages[`${at}/node_modules/${name}`] !== undefined;
}
