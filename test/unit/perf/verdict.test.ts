import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Comparison } from '../../../perf/runner/benchmark.ts';
import { readCpuTime, stolenShare } from '../../../perf/runner/sampling.ts';
import { median, quantile, spread } from '../../../perf/runner/statistics.ts';
import { judge, type Run, wantsMore } from '../../../perf/runner/verdict.ts';

const values = fc.array(fc.double({ min: 0.1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 30 });

describe('a quantile', () => {
  it('lies within the values, grows with q, and is a value where q points at one', () => {
    fc.assert(
      fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (all, q) => {
        const sorted = all.toSorted((a, b) => a - b);
        expect(quantile(all, 0)).toBe(sorted[0]);
        expect(quantile(all, 1)).toBe(sorted.at(-1));
        expect(quantile(all, q)).toBeGreaterThanOrEqual(sorted[0]!);
        expect(quantile(all, q)).toBeLessThanOrEqual(quantile(all, Math.min(1, q + 0.1)) * (1 + 1e-12));
        sorted.forEach((value, i) => {
          if (all.length > 1) expect(quantile(all, i / (all.length - 1))).toBeCloseTo(value, 6);
        });
      }),
    );
  });

  it('halves an even number of values in the middle', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([3, 1, 2])).toBe(2);
    expect(() => median([])).toThrow(RangeError);
  });
});

describe('the spread', () => {
  it('is the middle half as a share of the median, and none of equal values', () => {
    expect(spread([8, 9, 10, 11, 12])).toBeCloseTo(0.2);
    expect(spread([0, 0, 0])).toBe(0);
    expect(spread([-1, 0, 1])).toBe(Number.POSITIVE_INFINITY);
  });
});

const comparison: Comparison = {
  ...{ name: 'benchmark', about: '', ours: 'a.rate', peer: 'b.rate', unit: 'Mpps', goal: '≥ 1' },
};
const runs = (...pairs: [a: number | undefined, b: number | undefined][]): Run[] =>
  pairs.flatMap(([a, b], turn) => [
    a === undefined
      ? { variant: 'a', turn, failure: 'it fell over' }
      : { variant: 'a', turn, sample: { rate: a } },
    b === undefined
      ? { variant: 'b', turn, failure: 'not there' }
      : { variant: 'b', turn, sample: { rate: b } },
  ]);

describe('what the runs come to', () => {
  it('is the median of the ratios of neighbours, whatever both did from turn to turn', () => {
    const line = judge(comparison, runs([10, 5], [100, 50], [40, 20]));
    expect(line).toMatchObject({ ours: 40, peer: 20, ratio: 2, met: true, goal: '≥ 1', runs: 3, spread: 0 });
    expect(line.note).toBeUndefined();
  });

  it('leaves a turn out in which one variant failed', () => {
    expect(judge(comparison, runs([10, 5], [undefined, 1], [10, 5]))).toMatchObject({ ratio: 2, runs: 2 });
  });

  it('is no number when a variant never worked, and says why', () => {
    const line = judge(comparison, runs([10, undefined], [10, undefined]));
    expect(line).toMatchObject({ ours: null, peer: null, ratio: null, met: null, runs: 0 });
    expect(line.note).toBe('failed: b: not there');
    expect(wantsMore(line)).toBe(false);
  });

  it('is no number when the ratios are all over the place, and asks for more', () => {
    const line = judge(comparison, runs([1, 1], [20, 1], [4, 1], [9, 1]));
    expect(line).toMatchObject({ ratio: null, met: null });
    expect(line.note).toMatch(/^noisy: /);
    expect(wantsMore(line)).toBe(true);
  });

  it('is no number either when the ratios are small, and all over the place', () => {
    expect(judge(comparison, runs([0.1, 1], [0.9, 1], [0.2, 1], [0.8, 1])).note).toMatch(/^noisy: /);
  });

  it('is no number when the peer moved nothing', () => {
    expect(judge(comparison, runs([1, 0])).note).toBe('failed: the peer moved nothing');
  });

  it('counts a smaller figure as better where that is so, and a bare figure against its goal', () => {
    const lost: Comparison = { name: 'lost', about: '', ours: 'a.rate', unit: 'packets', goal: '≤ 0' };
    expect(judge(lost, runs([0, 1], [0, 1]))).toMatchObject({ ours: 0, ratio: null, goal: '≤ 0', met: true });
    expect(judge(lost, runs([0, 1], [2, 1], [1, 1]))).toMatchObject({ ours: 1, met: false });
  });
});

describe('the stolen CPU time', () => {
  it('is the share of all CPUs that went to other guests', () => {
    const before = readCpuTime('cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 1 1 1\n');
    const after = readCpuTime('cpu  200 0 100 750 0 0 0 150 90 0\n');
    expect(before).toEqual({ total: 1000, stolen: 100 });
    expect(stolenShare(before, after)).toBeCloseTo(0.25);
    expect(stolenShare(before, before)).toBe(0);
  });
});
