import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gbitPerSecond, rateChart } from '../../../src/cli/demo/display.ts';
import type { RateSample } from '../../../src/cli/demo/ledger.ts';

const sample = (bytes: number, path: RateSample['path'] = 'vf', millis = 100): RateSample => ({
  ...{ millis, bytes, path: bytes === 0 ? 'none' : path },
});

const samples = fc.array(
  fc.record({
    millis: fc.integer({ min: 1, max: 1000 }),
    bytes: fc.nat(1e9),
    path: fc.constantFrom('vf' as const, 'synthetic' as const),
  }),
  { minLength: 1, maxLength: 200 },
);

describe('a chart of a rate', () => {
  it('has a full bar for the fastest column, no bar where nothing arrived, and a mark for the path', () => {
    const chart = rateChart([sample(80e6), sample(1), sample(0), sample(40e6, 'synthetic')], 10);
    expect(chart.bars).toBe('█▁ ▄');
    expect(chart.marks).toBe('══ ─');
    expect(chart.highest).toBeCloseTo(6.4);
  });

  it('is empty without samples, and blank if nothing arrived', () => {
    expect(rateChart([], 10)).toEqual({ bars: '', marks: '', highest: 0 });
    expect(rateChart([sample(0), sample(0)], 10)).toEqual({ bars: '  ', marks: '  ', highest: 0 });
  });

  it('merges samples if there are more than columns, and marks the path of most bytes', () => {
    const chart = rateChart([sample(10), sample(30, 'synthetic'), sample(0), sample(80)], 2);
    expect(chart.bars).toBe('▄█');
    expect(chart.marks).toBe('─═');
  });

  it('is never wider than its columns, and every column has a bar and a mark', () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 80 }), (given, columns) => {
        const { bars, marks, highest } = rateChart(given, columns);
        expect(bars.length).toBe(marks.length);
        expect(bars.length).toBeLessThanOrEqual(columns);
        expect(bars.length * Math.ceil(given.length / columns)).toBeGreaterThanOrEqual(given.length);
        expect(bars.includes('█')).toBe(given.some(({ bytes }) => bytes > 0));
        expect(highest).toBeLessThanOrEqual(Math.max(...given.map(gbitPerSecond)) * (1 + 1e-9));
      }),
    );
  });
});
