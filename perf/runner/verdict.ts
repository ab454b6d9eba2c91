/**
 * The result of a benchmark's runs: a line for each comparison, or the reason for a missing result.
 *
 * The ratio is the median of the ratios of neighbouring runs, not the ratio of the medians: two runs that follow each
 * other share the machine's state, runs that are minutes apart do not.
 */
import type { Comparison, Sample } from './benchmark.ts';
import { median, spread } from './statistics.ts';

/** One run of a variant. */
export interface Run {
  readonly variant: string;
  /** Which turn of the benchmark, from 0: runs of the same turn are neighbours. */
  readonly turn: number;
  readonly sample?: Sample;
  /** Why there is no sample. */
  readonly failure?: string;
}

/** One object of `rows` in the JSON that `npm run perf` prints. */
export interface Line {
  readonly name: string;
  readonly ours: number | null;
  readonly peer: number | null;
  readonly unit: string;
  /** ours ÷ peer; null without a peer, or without a result. */
  readonly ratio: number | null;
  /** `≥ 1` or `≤ 1`; null: reported only. */
  readonly goal: string | null;
  /** null: there is no goal, or no result. */
  readonly met: boolean | null;
  /** Turns that count. */
  readonly runs: number;
  /** Width of the middle half of the ratios (without a peer: of the figures), as a share of their median; null: one run. */
  readonly spread: number | null;
  /** Why there is no result. Absent otherwise. */
  readonly note?: string;
}

/** A wider middle half than this is noise, not a result. */
const NOISY = 0.35;
const NO_RESULT = { ours: null, peer: null, ratio: null, met: null, runs: 0, spread: null };

export function judge(comparison: Comparison, runs: readonly Run[]): Line {
  const { name, unit, goal = null } = comparison;
  const none = (note: string): Line => ({ ...NO_RESULT, name, unit, goal, note });
  const ours = figures(comparison.ours, runs);
  const peer = comparison.peer === undefined ? undefined : figures(comparison.peer, runs);
  const turns = [...ours.keys()].filter((turn) => peer === undefined || peer.has(turn));
  if (turns.length === 0) return none(`failed: ${whyNone(comparison, runs)}`);
  const values = turns.map((turn) => ours.get(turn)!);
  const others = peer && turns.map((turn) => peer.get(turn)!);
  if (others?.includes(0)) return none('failed: the peer moved nothing');
  const compared = others === undefined ? values : values.map((value, i) => value / others[i]!);
  const width = spread(compared);
  if (width > NOISY && !compared.every(isSmallCount)) {
    return none(`noisy: the middle half of ${turns.length} runs is ${Math.round(width * 100)} % wide`);
  }
  const result = median(compared);
  return {
    name,
    ours: median(values),
    peer: others === undefined ? null : median(others),
    unit,
    ratio: others === undefined ? null : result,
    goal,
    met: goal === null ? null : isMet(goal, result),
    runs: turns.length,
    spread: turns.length > 1 ? width : null,
  };
}

/** Whether more runs could give a result. */
export const wantsMore = (line: Line): boolean => line.note?.startsWith('noisy') ?? false;

const isMet = (goal: string, value: number): boolean => {
  const bound = Number(goal.slice(2));
  return goal.startsWith('≥') ? value >= bound : value <= bound;
};

/**
 * How many times a line reaches its goal: at least 1 means that it is met, more is better. 0 or infinite where the goal or the
 * figure is 0. Null without a goal, or without a result.
 */
export function timesGoal({ ratio, ours, peer, goal }: Line): number | null {
  const value = peer === null ? ours : ratio;
  if (goal === null || value === null) return null;
  const bound = Number(goal.slice(2));
  const [more, less] = goal.startsWith('≥') ? [value, bound] : [bound, value];
  return less > 0 ? more / less : isMet(goal, value) ? Number.POSITIVE_INFINITY : 0;
}

/** Small counts are exact: 0, 1 and 0 lost packets are no noise. */
const isSmallCount = (value: number): boolean => Number.isInteger(value) && Math.abs(value) <= 2;

/** Of `variant.figure`, by turn. */
function figures(path: string, runs: readonly Run[]): Map<number, number> {
  const [variant, figure = ''] = path.split('.');
  const found = new Map<number, number>();
  for (const run of runs) {
    const value = run.variant === variant ? run.sample?.[figure] : undefined;
    if (value !== undefined) found.set(run.turn, value);
  }
  return found;
}

function whyNone({ ours, peer }: Comparison, runs: readonly Run[]): string {
  for (const path of [ours, peer]) {
    const variant = path?.split('.')[0];
    const failed = runs.find((run) => run.variant === variant && run.failure !== undefined);
    if (failed !== undefined) return `${variant}: ${failed.failure}`;
  }
  return peer === undefined ? `no run has ${ours}` : `no turn has both ${ours} and ${peer}`;
}
