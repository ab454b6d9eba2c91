/**
 * A benchmark: variants that are measured, and comparisons of their figures.
 *
 * A variant is a function. It builds what it needs, measures for about `budget.seconds`, removes everything and returns its figures
 * by name. Each run of a variant has its own process (variant.ts). The runner starts the variants of a benchmark in turn, A B A B
 * (sampling.ts), so that all of them see the same state of a shared machine. A variant that fails throws: a failure is never a
 * figure.
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
  /** A higher goal for the best of the kinds of processors that are published. */
  readonly best?: string | undefined;
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

/** What a line of a table is repeated for: the texts by the names. */
type Values = Readonly<Record<string, Readonly<Record<string, string>>>>;

/**
 * Comparisons from a table, one a line: `name | ours / peer | unit | goal | about`. Peer and goal may be absent.
 * The goal may be `≥ 0.6, best ≥ 0.8`, see {@link Comparison.best}.
 *
 * Neighbouring lines with `{kind}` are repeated together for each name of the value `kind`. `{Kind}` is the name with a
 * capital, `{KIND}` its text. The first line has the name of the benchmark.
 */
export function comparisons(table: string, values: Values = {}): Comparison[] {
  return repeated(table.trim().split('\n'), Object.entries(values)).map((line, i) => {
    const cells = line.split('|').map((cell) => cell.trim());
    const [name = '', figures = '', unit = '', goal, about = ''] = cells;
    const [ours = '', peer] = figures.split(' / ');
    const [all, best] = goal ? goal.split(', best ') : [];
    return {
      name: i === 0 ? name.split(':')[0]! : name,
      ...{ ours, peer, unit, goal: all, about },
      ...(best !== undefined && { best }),
    };
  });
}

function repeated(lines: readonly string[], [first, ...others]: [string, Values[string]][]): string[] {
  if (first === undefined) return [...lines];
  const [key, texts] = first;
  const capital = (name: string): string => name.charAt(0).toUpperCase() + name.slice(1);
  const begin = lines.findIndex((line) => line.includes(`{${key}}`));
  if (begin < 0) return repeated(lines, others);
  const length = lines.slice(begin).findIndex((line) => !line.includes(`{${key}}`));
  const end = length < 0 ? lines.length : begin + length;
  const filled = Object.entries(texts).map(([name, text]) =>
    lines
      .slice(begin, end)
      .map((line) => line.replaceAll(`{${key}}`, name).replaceAll(`{${capital(key)}}`, capital(name)))
      .map((line) => line.replaceAll(`{${key.toUpperCase()}}`, text)),
  );
  return [
    ...repeated(lines.slice(0, begin), others),
    ...filled.flatMap((block) => repeated(block, others)),
    ...repeated(lines.slice(end), [first, ...others]),
  ];
}
