/** Statistics of several runs: quantiles, lines through points, and the law of scaling. */

/** The q-quantile, q from 0 to 1, interpolated between neighbours. @throws RangeError of no values */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError('no values');
  const sorted = values.toSorted((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below]! + (sorted[above]! - sorted[below]!) * (at - below);
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** The width of the middle half, as a share of the median: with 0.1, half the runs are within ± 5 %, roughly. */
export function spread(values: readonly number[]): number {
  const middle = median(values);
  if (middle === 0) return values.every((value) => value === 0) ? 0 : Number.POSITIVE_INFINITY;
  return (quantile(values, 0.75) - quantile(values, 0.25)) / Math.abs(middle);
}

/** A distribution as figures of a sample: `nameP50`, `nameP90`, `nameP99` and `nameMax`. */
export function percentiles(name: string, values: readonly number[]): Record<string, number> {
  const ranks = { P50: 0.5, P90: 0.9, P99: 0.99, Max: 1 };
  return Object.fromEntries(
    Object.entries(ranks).map(([rank, q]) => [`${name}${rank}`, quantile(values, q)]),
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

/** Beyond this correlation no points would be left. */
const MAX_RELATED = 0.95;

/** Least squares, points in their order. @throws RangeError of fewer than three points, or points that share one x */
export function slope(xs: readonly number[], ys: readonly number[]): Slope {
  const count = xs.length;
  if (count < 3 || ys.length !== count) throw new RangeError(`${count} x and ${ys.length} y`);
  const sum = (of: (i: number) => number): number => xs.reduce((all, _, i) => all + of(i), 0);
  const [meanX, meanY] = [sum((i) => xs[i]!) / count, sum((i) => ys[i]!) / count];
  const across = sum((i) => (xs[i]! - meanX) ** 2);
  if (across === 0) throw new RangeError('all points share one x');
  const rise = sum((i) => (xs[i]! - meanX) * (ys[i]! - meanY)) / across;
  const off = xs.map((x, i) => ys[i]! - meanY - rise * (x - meanX));
  const left = sum((i) => off[i]! ** 2);
  const together = sum((i) => (i === 0 ? 0 : off[i]! * off[i - 1]!));
  const r = left === 0 ? 0 : Math.min(MAX_RELATED, Math.max(0, together / left));
  const error = Math.sqrt(((left / (count - 2) / across) * (1 + r)) / (1 - r));
  return { slope: rise, error, t: rise === 0 ? 0 : rise / error };
}

/** Workers, and their throughput together. */
export interface Point {
  readonly workers: number;
  readonly throughput: number;
}

/**
 * The universal scalability law: X(N) = γN / (1 + α(N−1) + βN(N−1)), the throughput of N workers.
 *
 * γ is what one worker does, α the share of the work that only one can do at a time (Amdahl), β what each pair of
 * workers pays for the coherence of their caches. See N. Gunther, "Guerrilla Capacity Planning", chapters 4 and 6.
 */
export interface Law {
  readonly gamma: number;
  readonly alpha: number;
  readonly beta: number;
}

export const throughputOf = ({ gamma, alpha, beta }: Law, workers: number): number =>
  (gamma * workers) / (1 + alpha * (workers - 1) + beta * workers * (workers - 1));

/** N/X is linear in these: with the coefficients 1/γ, α/γ and β/γ. */
const COLUMNS = [() => 1, (n: number) => n - 1, (n: number) => n * (n - 1)];

/**
 * The law that fits best: least squares, each point weighed by its relative error. α and β are not negative. With fewer
 * than three distinct N, α and β cannot be separated and β is 0: then the throughput of many workers is a guess.
 *
 * @throws RangeError of fewer than two distinct numbers of workers
 */
export function fitLaw(points: readonly Point[]): Law {
  const distinct = new Set(points.map(({ workers }) => workers)).size;
  if (distinct < 2) throw new RangeError('a law of scaling needs two numbers of workers');
  // The best law within the bounds is the free one, or has a parameter that is 0.
  const choices = distinct === 2 ? [[0, 1], [0]] : [[0, 1, 2], [0, 1], [0, 2], [0]];
  const laws = choices.map((columns) => leastSquares(points, columns));
  const possible = laws.filter(({ gamma, alpha, beta }) => gamma > 0 && alpha >= 0 && beta >= 0);
  const error = (law: Law): number =>
    points.reduce((sum, point) => sum + (point.throughput / throughputOf(law, point.workers) - 1) ** 2, 0);
  return possible.reduce((best, law) => (error(law) < error(best) ? law : best));
}

/** With these columns; the coefficients of the others are 0. */
function leastSquares(points: readonly Point[], columns: readonly number[]): Law {
  // Each row is divided by its N/X: the residuals are relative.
  const rows = points.map(({ workers, throughput }) =>
    columns.map((column) => (COLUMNS[column]!(workers) * throughput) / workers),
  );
  const sum = (of: (row: number[]) => number): number => rows.reduce((all, row) => all + of(row), 0);
  const matrix = columns.map((_, i) => [
    ...columns.map((_, j) => sum((row) => row[i]! * row[j]!)),
    sum((row) => row[i]!),
  ]);
  // Gauss-Jordan; a matrix of squares is positive definite, and needs no pivots.
  matrix.forEach((pivot, i) => {
    for (const row of matrix) {
      const factor = row === pivot ? 0 : row[i]! / pivot[i]!;
      for (let j = i; j < row.length; j++) row[j]! -= factor * pivot[j]!;
    }
  });
  const found = [0, 0, 0];
  columns.forEach((column, i) => {
    found[column] = matrix[i]!.at(-1)! / matrix[i]![i]!;
  });
  const [perWorker, serial, coherence] = found as [number, number, number];
  return { gamma: 1 / perWorker, alpha: serial / perWorker, beta: coherence / perWorker };
}

/** The laws of resamples of the points, drawn with replacement for each number of workers: their spread is the uncertainty. */
export function resampled(points: readonly Point[], count: number, random = pseudoRandom()): Law[] {
  const groups = new Map<number, Point[]>();
  for (const point of points) groups.set(point.workers, [...(groups.get(point.workers) ?? []), point]);
  const drawn = (group: Point[]): Point[] => group.map(() => group[Math.floor(random() * group.length)]!);
  return Array.from({ length: count }, () => fitLaw([...groups.values()].flatMap(drawn)));
}

/** The same numbers each time: the same samples have the same uncertainty. A linear congruential generator (Numerical Recipes). */
function pseudoRandom(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
