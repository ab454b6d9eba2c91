/** What is made of several runs. */

/** The q-quantile, 0 to 1, between neighbours in proportion. @throws RangeError of no values */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError('no values');
  const sorted = values.toSorted((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (at - below);
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** The middle half's width, as a share of the median: 0.1 says that half the runs lie within ± 5 %, about. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  if (middle === 0) return values.every((value) => value === 0) ? 0 : Number.POSITIVE_INFINITY;
  return (quantile(values, 0.75) - quantile(values, 0.25)) / Math.abs(middle);
}

/** A distribution as figures of a sample: `nameP50`, `nameP90`, `nameP99` and `nameMax`. */
export function percentiles(name: string, values: readonly number[]): Record<string, number> {
  return Object.fromEntries(
    [
      ['P50', 0.5],
      ['P90', 0.9],
      ['P99', 0.99],
      ['Max', 1],
    ].map(([of, q]) => [`${name}${of}`, quantile(values, q as number)]),
  );
}

/** A straight line through points. */
export interface Slope {
  /** Of y by x. */
  readonly slope: number;
  /**
   * Standard error of the slope. Neighbours that err to the same side (a shared machine is busy for seconds on end)
   * count as fewer points: n (1 - r) / (1 + r) of them, r being the correlation of neighbours' distances to the line.
   */
  readonly error: number;
  /** The slope in standard errors; 0 where there is no slope at all. Within ± 3 it is noise. */
  readonly t: number;
}

/** Beyond it there would be no points left. */
const MOST_RELATED = 0.95;

/** Least squares, points in their order. @throws RangeError of fewer than three points, or points that share one x */
export function slope(xs: readonly number[], ys: readonly number[]): Slope {
  const count = xs.length;
  if (count < 3 || ys.length !== count) throw new RangeError(`${count} x and ${ys.length} y`);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / count;
  const sum = (of: (i: number) => number): number => xs.reduce((all, _, i) => all + of(i), 0);
  const [meanX, meanY] = [mean(xs), mean(ys)];
  const across = sum((i) => (xs[i]! - meanX) ** 2);
  if (across === 0) throw new RangeError('all points share one x');
  const rise = sum((i) => (xs[i]! - meanX) * (ys[i]! - meanY)) / across;
  const off = xs.map((x, i) => ys[i]! - meanY - rise * (x - meanX));
  const left = sum((i) => off[i]! ** 2);
  const together = sum((i) => (i === 0 ? 0 : off[i]! * off[i - 1]!));
  const r = left === 0 ? 0 : Math.min(MOST_RELATED, Math.max(0, together / left));
  const error = Math.sqrt(((left / (count - 2) / across) * (1 + r)) / (1 - r));
  return { slope: rise, error, t: rise === 0 ? 0 : rise / error };
}
