import { expect, test } from 'vitest';
import { OFFSETS } from '../../src/kernel/abi.ts';
import { loadShim } from '../../src/kernel/shim.ts';

test('every offset in abi.ts is the one the C compiler chose', () => {
  const shim = loadShim();
  expect(OFFSETS.map((_, field) => shim.offset(field))).toEqual(OFFSETS);
});

test('the shim knows no more fields than abi.ts states', () => {
  expect(loadShim().offset(OFFSETS.length)).toBeLessThan(0);
  expect(loadShim().offset(-1)).toBeLessThan(0);
});
