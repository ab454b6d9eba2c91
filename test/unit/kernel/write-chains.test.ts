import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { check, Errno } from '../../../src/errors.ts';
import { addressOf, loadShim } from '../../../src/kernel/shim.ts';

const O_WRONLY_APPEND = 1 | 0o2000;
const shim = loadShim();
const memory = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7) ^ (i >> 8));
const base = addressOf(memory);

/** An empty file, open for appending. */
function sink(): { fd: number; bytes: () => Uint8Array } {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-'));
  const file = join(folder, 'sink');
  writeFileSync(file, '');
  const fd = check(shim.open(file, O_WRONLY_APPEND), 'open');
  onTestFinished(() => {
    shim.close(fd);
    rmSync(folder, { recursive: true });
  });
  return { fd, bytes: () => new Uint8Array(readFileSync(file)) };
}

test('writeChains writes each chain with its pieces in order', () => {
  const { fd, bytes } = sink();
  const piece = fc.record({ offset: fc.nat(4000), length: fc.nat(96) });
  const chain = fc.array(piece, { minLength: 1, maxLength: 64 });
  let expected: number[] = [];
  fc.assert(
    fc.property(fc.array(chain, { maxLength: 8 }), (chains) => {
      const spans = Int32Array.from(chains.flat().flatMap(({ offset, length }) => [offset, length]));
      const counts = Uint32Array.from(chains, ({ length }) => length);
      expect(shim.writeChains(fd, base, memory.byteLength, spans, counts, chains.length)).toBe(chains.length);
      for (const { offset, length } of chains.flat()) {
        expected = [...expected, ...memory.subarray(offset, offset + length)];
      }
      expect(Buffer.compare(bytes(), Uint8Array.from(expected))).toBe(0);
    }),
    { numRuns: 30 },
  );
});

test('writeChains refuses a chain of 0 or more than 64 pieces, and counts the chains before it', () => {
  const { fd, bytes } = sink();
  const spans = new Int32Array(2 * 80).fill(1);
  for (const count of [0, 65, 0xffffffff]) {
    expect(shim.writeChains(fd, base, memory.byteLength, spans, new Uint32Array([count]), 1)).toBe(
      Errno.EINVAL,
    );
    expect(shim.writeChains(fd, base, memory.byteLength, spans, new Uint32Array([2, count, 1]), 3)).toBe(1);
  }
  expect(bytes()).toHaveLength(6);
});

test('writeChains returns the errno of a refused first chain, and stops at a later one', () => {
  const { fd, bytes } = sink();
  const spans = new Int32Array([0, 5, 0, -1]);
  const counts = new Uint32Array([1, 1]);
  expect(shim.writeChains(fd, base, memory.byteLength, spans, counts, 2)).toBe(1);
  expect(bytes()).toHaveLength(5);
  expect(shim.writeChains(fd, base, memory.byteLength, spans.subarray(2), counts, 1)).toBe(Errno.EINVAL);
  expect(shim.writeChains(-1, base, memory.byteLength, spans, counts, 1)).toBe(Errno.EBADF);
  expect(shim.writeChains(fd, base, memory.byteLength, spans, counts, 0)).toBe(0);
});
