/**
 * What a benchmark of the results is: variants that are measured, and the comparisons made of their figures.
 *
 * A variant is a function: it builds what it needs, measures for about `budget.seconds`, removes everything and returns
 * its figures by name. Each run of a variant has a process of its own (variant.ts). The runner starts the variants of a
 * benchmark in turn, A B A B (sampling.ts), so that all of them see the same state of a shared machine. A variant that fails
 * throws: a failure is never a figure.
 */

/** How long one run of a variant may measure, without the time to build. */
export interface Budget {
  readonly seconds: number;
  /** Fewer cycles, where the variant has a number of them. */
  readonly quick: boolean;
  /** Prints a line of progress, for a variant that takes long. */
  readonly report: (text: string) => void;
}

/** Figures of one run of a variant, by name. */
export type Sample = Readonly<Record<string, number>>;

export type Variant = (budget: Budget) => Promise<Sample> | Sample;

/** One line of the results: our figure, and a peer's where there is one. */
export interface Comparison {
  /** The benchmark's own name, or `benchmark:what` for its other lines. */
  readonly name: string;
  /** `variant.figure`. */
  readonly ours: string;
  /** `variant.figure`; undefined: nothing to compare with, and the goal is for the figure itself. */
  readonly peer?: string | undefined;
  readonly unit: string;
  /** `≥ 1` or `≤ 1`: of the ratio ours ÷ peer, or of the figure without a peer. Undefined: reported only. */
  readonly goal?: string | undefined;
  /** What is measured, for a reader who sees the table alone. */
  readonly about: string;
}

export interface Benchmark {
  readonly name: string;
  /** A sentence: what is built, what sends, what measures, on how many cores. */
  readonly about: string;
  /** In the order in which they take turns. */
  readonly variants: Readonly<Record<string, Variant>>;
  readonly comparisons: readonly Comparison[];
  /** Runs of each variant, and seconds that each of them measures. */
  readonly full: { readonly runs: number; readonly seconds: number };
  readonly quick: { readonly runs: number; readonly seconds: number };
  /** Measured only when it is named. */
  readonly onRequest?: boolean;
}

/** Comparisons written as a table, one a line: `name | ours / peer | unit | goal | about`. Peer and goal may be absent. */
export function comparisons(table: string): Comparison[] {
  return table
    .trim()
    .split('\n')
    .map((line) => {
      const [name = '', figures = '', unit = '', goal = '', about = ''] = line
        .split('|')
        .map((cell) => cell.trim());
      const [ours = '', peer] = figures.split(' / ');
      return { name, ours, peer, unit, goal: goal || undefined, about };
    });
}
