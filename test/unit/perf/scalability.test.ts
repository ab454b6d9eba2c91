import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fitLaw, type Law, resampled, throughputOf } from '../../../perf/runner/statistics.ts';

const pointsOf = (law: Law, counts: readonly number[]) =>
  counts.map((workers) => ({ workers, throughput: throughputOf(law, workers) }));

describe('the universal scalability law', () => {
  it('is found again in throughputs that it made', () => {
    const law = fc.record({
      gamma: fc.double({ min: 0.1, max: 1e4, noNaN: true }),
      alpha: fc.double({ min: 0, max: 0.5, noNaN: true }),
      beta: fc.double({ min: 0, max: 0.05, noNaN: true }),
    });
    fc.assert(
      fc.property(law, (given) => {
        const found = fitLaw(pointsOf(given, [1, 2, 4, 8, 16]));
        expect(found.gamma / given.gamma).toBeCloseTo(1, 6);
        expect(found.alpha).toBeCloseTo(given.alpha, 6);
        expect(found.beta).toBeCloseTo(given.beta, 6);
      }),
    );
  });

  it('has no β of two points: α takes all of what is missing', () => {
    const { gamma, alpha, beta } = fitLaw([
      { workers: 1, throughput: 10 },
      { workers: 2, throughput: 16 },
    ]);
    expect(gamma).toBeCloseTo(10, 9);
    expect(alpha).toBeCloseTo(0.25, 9); // 20 / (1 + α) = 16
    expect(beta).toBe(0);
  });

  it('does not take luck for a negative cost', () => {
    const law = fitLaw([
      { workers: 1, throughput: 10 },
      { workers: 2, throughput: 21 },
    ]);
    expect(law.alpha).toBe(0);
    expect(law.gamma).toBeGreaterThan(10);
  });

  it('falls beyond its peak', () => {
    const law = { gamma: 1, alpha: 0.05, beta: 0.01 };
    const peak = Math.sqrt((1 - law.alpha) / law.beta);
    expect(throughputOf(law, peak)).toBeGreaterThan(throughputOf(law, peak * 2));
    expect(throughputOf(law, peak)).toBeGreaterThan(throughputOf(law, peak / 2));
  });

  it('cannot be told from one number of workers', () => {
    expect(() => fitLaw(pointsOf({ gamma: 1, alpha: 0, beta: 0 }, [2, 2]))).toThrow(RangeError);
  });

  it('is in more doubt the more the samples differ', () => {
    const around = (noise: number) =>
      [-2, -1, 0, 1, 2].flatMap((step) => [
        { workers: 1, throughput: 10 },
        { workers: 2, throughput: 16 * (1 + step * noise) },
      ]);
    const width = (noise: number): number => {
      const alphas = resampled(around(noise), 200).map(({ alpha }) => alpha);
      return Math.max(...alphas) - Math.min(...alphas);
    };
    expect(width(0)).toBeCloseTo(0, 9);
    expect(width(0.05)).toBeGreaterThan(width(0.01));
    expect(width(0.01)).toBeGreaterThan(0);
  });
});
