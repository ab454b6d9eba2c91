import fc from 'fast-check';
import { expect, test } from 'vitest';
import { percentiles, quantile, slope } from '../../../perf/runner/statistics.ts';

test('percentiles of a distribution are its quantiles', () => {
  const values = Array.from({ length: 101 }, (_, i) => (i * 37) % 101); // 0 to 100, shuffled
  expect(percentiles('away', values)).toEqual({ awayP50: 50, awayP90: 90, awayP99: 99, awayMax: 100 });
});

test('a quantile between two values is interpolated', () => {
  expect(quantile([10, 20], 0.25)).toBe(12.5);
  expect(() => quantile([], 0.5)).toThrow(RangeError);
});

test('a line through points has its slope and standard error', () => {
  const { slope: rise, error, t } = slope([0, 1, 2, 3, 4], [1, 3, 2, 5, 4]);
  expect(rise).toBeCloseTo(0.8, 12);
  expect(error).toBeCloseTo(Math.sqrt(0.12), 12); // residuals' squares 3.6, over 3, over 10
  expect(t).toBeCloseTo(0.8 / Math.sqrt(0.12), 12);
});

test('correlated neighbours widen the standard error', () => {
  // Around the line y = 0: four above, eight below, four above. r = (3 + 7 + 3 - 2) / 16.
  const ys = Array.from({ length: 16 }, (_, i) => (i < 4 || i >= 12 ? 1 : -1));
  const xs = ys.map((_, i) => i);
  const r = 11 / 16;
  const independent = 16 / 14 / 340;
  const found = slope(xs, ys);
  expect(found.slope).toBe(0);
  expect(found.error).toBeCloseTo(Math.sqrt((independent * (1 + r)) / (1 - r)), 12);
});

test('constant points have slope 0 and standard error 0', () => {
  expect(slope([1, 2, 3], [7, 7, 7])).toEqual({ slope: 0, error: 0, t: 0 });
});

test('a slope needs three points with different x', () => {
  expect(() => slope([1, 2], [1, 2])).toThrow(RangeError);
  expect(() => slope([1, 1, 1], [1, 2, 3])).toThrow(RangeError);
});

test('a decay is found in noise of its own size', () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 50, maxLength: 50 }),
      (noise) => {
        const xs = noise.map((_, i) => i);
        const decaying = noise.map((value, i) => value - i);
        expect(slope(xs, decaying).t).toBeLessThan(-3);
        // Shifting and tilting the points shifts and tilts the line, and leaves its error.
        const [plain, tilted] = [slope(xs, noise), slope(xs, decaying)];
        expect(tilted.slope).toBeCloseTo(plain.slope - 1, 9);
        expect(tilted.error).toBeCloseTo(plain.error, 9);
      },
    ),
  );
});
