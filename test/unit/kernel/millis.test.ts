import fc from 'fast-check';
import { expect, test } from 'vitest';
import { loadShim, millisBetween } from '../../../src/kernel/shim.ts';

const MODULUS = 2 ** 31;
const MAX = 2 ** 30 - 1;

test('the clock of the shim is the kernel’s monotonic one, cut to what V8 keeps without an object', () => {
  const shim = loadShim();
  const monotonic = (): number => Number((process.hrtime.bigint() / 1_000_000n) % BigInt(MODULUS));
  for (let i = 0; i < 100; i++) {
    const [before, now, after] = [monotonic(), shim.millis(), monotonic()];
    expect(millisBetween(before, now)).toBeGreaterThanOrEqual(0);
    expect(millisBetween(now, after)).toBeGreaterThanOrEqual(0);
    expect(now).toBe(now & (MODULUS - 1));
  }
});

test('the time between two readings is right across the wrap of the clock', () => {
  const reading = fc.integer({ min: 0, max: MODULUS - 1 });
  const span = fc.integer({ min: -MAX, max: MAX });
  fc.assert(
    fc.property(reading, span, (from, millis) => {
      expect(millisBetween(from, from + millis)).toBe(millis); // not reduced, as a deadline is
      expect(millisBetween(from, (from + millis) & (MODULUS - 1))).toBe(millis);
    }),
  );
});
