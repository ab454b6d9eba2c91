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
