/**
 * What a row of the measurements is: a few sides, each measured in a process of its own, and what is compared.
 *
 * A side is a program: it builds what it needs, measures for about `budget.seconds`, takes everything down and
 * returns its figures by name. The runner (sampling.ts) starts the sides of a row in turn, A B A B, so that both
 * meet the same weather of a shared machine. A side that fails throws: a failure is never a figure.
 */

/** How long one run of a side may measure, the building aside. */
export interface Budget {
  readonly seconds: number;
  /** A look, not a measurement: fewer cycles where there is a number of them. */
  readonly quick: boolean;
  /** Tells whoever waits how far it is: for a side that takes long. */
  readonly say: (text: string) => void;
}

/** Figures of one run of a side, by name. */
export type Sample = Readonly<Record<string, number>>;

export type Side = (budget: Budget) => Promise<Sample> | Sample;

/** One line of the result: a figure of ours, beside a peer's where there is one. */
export interface Comparison {
  /** The row's own name, or `row:what` for what else it tells. */
  readonly name: string;
  /** What is measured, for somebody who reads the table alone. */
  readonly about: string;
  /** `side.figure`. */
  readonly ours: string;
  /** `side.figure`; undefined: there is nothing to compare with, and a goal is for the figure itself. */
  readonly peer?: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Of the ratio ours ÷ peer, or of the figure without a peer. Undefined: reported only. */
  readonly goal?: number;
}

export interface Row {
  readonly name: string;
  /** A sentence: what is built, who sends, who measures, on how many cores. */
  readonly about: string;
  /** In the order in which they take turns. */
  readonly sides: Readonly<Record<string, Side>>;
  readonly comparisons: readonly Comparison[];
  /** Runs of each side, and seconds that each measures. */
  readonly full: { readonly runs: number; readonly seconds: number };
  readonly quick: { readonly runs: number; readonly seconds: number };
  /** Only when it is asked for by name. */
  readonly onRequest?: boolean;
}
