import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadShim } from '../../../src/kernel/shim.ts';
import { OFFSETS } from '../../../src/memory/abi.ts';

test('every offset in abi.ts is the one the C compiler chose', () => {
  const shim = loadShim();
  expect(OFFSETS.map((_, field) => shim.offset(field))).toEqual(OFFSETS);
});

test('the shim knows no more fields than abi.ts states', () => {
  expect(loadShim().offset(OFFSETS.length)).toBeLessThan(0);
  expect(loadShim().offset(-1)).toBeLessThan(0);
});

test('the shim calls the kernel by the numbers of this architecture', () => {
  const native = fileURLToPath(new URL('../../../native/', import.meta.url));
  const text = ['syscall.h', 'faults.h'].map((file) => readFileSync(native + file, 'utf8')).join();
  const names = new Set([...text.matchAll(/\bNR_(\w+) = \d/g)].map(([, name]) => name));
  expect([...names]).toEqual(expect.arrayContaining(['mmap', 'bpf', 'io_uring_setup', 'gettid']));
  const source = [
    ...['#include <asm/unistd.h>', '#define TP_FAULTS', '#include "layout.h"', '#include "syscall.h"'],
    ...[...names].map((name) => `_Static_assert(NR_${name} == __NR_${name}, "${name}");`),
  ];
  const { stderr, status } = spawnSync('cc', ['-fsyntax-only', `-I${native}`, '-xc', '-'], {
    ...{ input: source.join('\n'), encoding: 'utf8' },
  });
  expect(stderr).toBe('');
  expect(status).toBe(0);
});
