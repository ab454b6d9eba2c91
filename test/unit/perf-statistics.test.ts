import { expect, test } from 'vitest';
import { percentiles, quantile } from '../../perf/statistics.ts';

test('percentiles name a distribution by its quantiles', () => {
  const values = Array.from({ length: 101 }, (_, i) => (i * 37) % 101); // 0 to 100, shuffled
  expect(percentiles('away', values)).toEqual({ awayP50: 50, awayP90: 90, awayP99: 99, awayMax: 100 });
});

test('a quantile lies between its neighbours in proportion', () => {
  expect(quantile([10, 20], 0.25)).toBe(12.5);
  expect(() => quantile([], 0.5)).toThrow(RangeError);
});
