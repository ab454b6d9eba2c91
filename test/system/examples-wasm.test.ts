/**
 * The handlers of examples/ in WebAssembly, built here where their compiler is installed.
 *
 * @module-tag unprivileged
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Handler, HandlerModule } from '../../src/handler/handler.ts';
import { DROP, PASS, TX } from '../../src/handler/handler.ts';
import { wasmHandler } from '../../src/handler/wasm-handler.ts';
import { ethernet, handled, ipv4, loaded, smallMemory, udp, workerContext } from '../support/frames.ts';
import { temporary } from '../support/process.ts';
import { damaged, ECHO, OTHERS, VLAN } from '../support/udp-echo.ts';

const examples = fileURLToPath(new URL('../../examples', import.meta.url));
const context = workerContext();
const { create }: HandlerModule = await import(pathToFileURL(join(examples, 'udp-echo/handler.mjs')).href);
const inScript = create!({}, context) as Handler;

/** Why a module cannot be built here, or undefined. */
const MISSING: Readonly<Record<string, () => string | undefined>> = {
  'wasm-c': () => missing('clang', ['--print-targets'], /wasm32/) ?? missing('wasm-ld', ['--version'], /LLD/),
  'wasm-rust': () => {
    const target = ['--print', 'target-libdir', '--target', 'wasm32-unknown-unknown'];
    const folder = output('rustc', target)?.trim();
    if (folder === undefined) return 'rustc is not installed';
    return existsSync(folder) ? undefined : 'rustc has no target wasm32-unknown-unknown';
  },
  'wasm-assemblyscript': () => undefined,
};

function output(command: string, args: readonly string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout : undefined;
}

function missing(command: string, args: readonly string[], expected: RegExp): string | undefined {
  const printed = output(command, args);
  if (printed === undefined) return `${command} is not installed`;
  return expected.test(printed) ? undefined : `${command} cannot compile for WebAssembly`;
}

describe.each(Object.keys(MISSING))('%s', (name) => {
  it('builds, and answers as udp-echo does, byte for byte', ({ skip }) => {
    const reason = MISSING[name]!();
    if (reason !== undefined) skip(reason);
    const module = join(temporary(), `${name}.wasm`);
    execFileSync(join(examples, name, 'build.sh'), [module], { stdio: ['ignore', 'ignore', 'inherit'] });
    const memory = smallMemory();
    const loadedModule = wasmHandler('file:///handler.wasm', readFileSync(module), {}, context, memory);
    const inWasm = typeof loadedModule === 'function' ? loadedModule : loadedModule.handle;
    const same = (frame: readonly number[]): number => {
      const burst = loaded([frame], memory);
      inWasm(burst);
      const [verdict, after] = handled(inScript, frame);
      expect([burst.verdict[0], [...burst.packet(0).bytes()]]).toEqual([verdict, after]);
      return verdict;
    };

    expect(same(ECHO)).toBe(TX);
    expect(same(ethernet(ipv4(udp([1, 2, 3]), { protocol: 17 }), { tags: [...VLAN, ...VLAN] }))).toBe(TX);
    expect(OTHERS.map(same)).toEqual([...Array(10).fill(PASS), ...Array(4).fill(DROP)]);
    for (let bytes = 0; bytes < ECHO.length; bytes++) same(ECHO.slice(0, bytes));
    fc.assert(
      fc.property(damaged(ECHO), (frame) => void same(frame)),
      { numRuns: 1000 },
    );
  }, 600_000); // a compiler under load
});
