/**
 * The universal scalability law: X(N) = γN / (1 + α(N−1) + βN(N−1)), the throughput of N workers.
 *
 * γ is what one worker does, α the share of the work that only one can do at a time (Amdahl), β what each pair of
 * workers costs by keeping their caches alike. See N. Gunther, "Guerrilla Capacity Planning", chapters 4 and 6.
 */

/** Workers, and what they did together. */
export interface Point {
  readonly workers: number;
  readonly throughput: number;
}

export interface Law {
  readonly gamma: number;
  readonly alpha: number;
  readonly beta: number;
}

export const throughputOf = ({ gamma, alpha, beta }: Law, workers: number): number =>
  (gamma * workers) / (1 + alpha * (workers - 1) + beta * workers * (workers - 1));

/**
 * The law that fits best: N/X is linear in 1, N−1 and N(N−1), so this is least squares, each point weighed by
 * its relative error. α and β are not negative. With fewer than three distinct N, β cannot be told from α and
 * is 0: what the law then says of many workers is a hope, not a result.
 *
 * @throws RangeError of fewer than two distinct numbers of workers
 */
export function fitLaw(points: readonly Point[]): Law {
  const distinct = new Set(points.map(({ workers }) => workers)).size;
  if (distinct < 2) throw new RangeError('a law of scaling needs two numbers of workers');
  // The best of those within bounds lies inside, or on one of the edges.
  const kinds = distinct === 2 ? [['alpha'], []] : [['alpha', 'beta'], ['alpha'], ['beta'], []];
  let best: { law: Law; error: number } | undefined;
  for (const free of kinds) {
    const law = leastSquares(points, free);
    if (law === undefined || law.alpha < 0 || law.beta < 0 || law.gamma <= 0) continue;
    const error = points.reduce(
      (sum, { workers, throughput }) => sum + (throughput / throughputOf(law, workers) - 1) ** 2,
      0,
    );
    if (best === undefined || error < best.error) best = { law, error };
  }
  return best!.law;
}

/** With the named parameters free and the others 0. */
function leastSquares(points: readonly Point[], free: readonly string[]): Law | undefined {
  const columns: readonly ((n: number) => number)[] = [
    () => 1,
    ...(free.includes('alpha') ? [(n: number) => n - 1] : []),
    ...(free.includes('beta') ? [(n: number) => n * (n - 1)] : []),
  ];
  // Rows are divided by N/X: their residuals are relative.
  const rows = points.map(({ workers, throughput }) =>
    columns.map((column) => (column(workers) * throughput) / workers),
  );
  const normal = columns.map((_, i) => [
    ...columns.map((_, j) => rows.reduce((sum, row) => sum + row[i]! * row[j]!, 0)),
    rows.reduce((sum, row) => sum + row[i]!, 0),
  ]);
  const solution = solve(normal);
  if (solution === undefined) return undefined;
  const [perWorker, ...rest] = solution as [number, ...number[]];
  const value = (name: string): number => {
    const at = free.indexOf(name);
    return at < 0 ? 0 : rest[at]! / perWorker;
  };
  return { gamma: 1 / perWorker, alpha: value('alpha'), beta: value('beta') };
}

/** Gauss with pivots; undefined if the rows depend on each other. */
function solve(augmented: number[][]): number[] | undefined {
  const n = augmented.length;
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++) {
      if (Math.abs(augmented[row]![column]!) > Math.abs(augmented[pivot]![column]!)) pivot = row;
    }
    [augmented[column], augmented[pivot]] = [augmented[pivot]!, augmented[column]!];
    const top = augmented[column]!;
    if (Math.abs(top[column]!) < 1e-12) return undefined;
    for (let row = 0; row < n; row++) {
      if (row === column) continue;
      const factor = augmented[row]![column]! / top[column]!;
      for (let i = column; i <= n; i++) augmented[row]![i]! -= factor * top[i]!;
    }
  }
  return augmented.map((row, i) => row[n]! / row[i]!);
}

/** Laws of so many samples of the points, drawn with replacement for each number of workers: their spread is the doubt. */
export function resampled(points: readonly Point[], count: number, random = pseudoRandom()): Law[] {
  const groups = byWorkers(points);
  return Array.from({ length: count }, () =>
    fitLaw(groups.flatMap((group) => group.map(() => group[Math.floor(random() * group.length)]!))),
  );
}

function byWorkers(points: readonly Point[]): Point[][] {
  const groups = new Map<number, Point[]>();
  for (const point of points) groups.set(point.workers, [...(groups.get(point.workers) ?? []), point]);
  return [...groups.values()];
}

/** The same numbers each time (mulberry32): the same samples have the same doubt. */
function pseudoRandom(): () => number {
  let state = 1;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
