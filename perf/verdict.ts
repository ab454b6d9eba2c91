/**
 * What the runs of a row say: a line for each comparison, or why there is none.
 *
 * The ratio is the median of the ratios of neighbouring runs, not the ratio of the medians: two runs side by
 * side share the machine's state, runs minutes apart do not.
 */
import type { Comparison, Sample } from './row.ts';
import { median, spread } from './statistics.ts';

/** What one turn of a side came to. */
export interface Run {
  readonly side: string;
  /** Which turn of the row, from 0: runs of the same turn are neighbours. */
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
  /** ≥ or ≤ and a number; null: reported only. */
  readonly goal: string | null;
  /** null: there is no goal, or no result. */
  readonly met: boolean | null;
  /** Turns that count. */
  readonly runs: number;
  /** Width of the middle half of the turns' ratios (figures without a peer), as a share of their median; null: one run. */
  readonly spread: number | null;
  /** Why there is no result. Only then. */
  readonly note?: string;
}

/** A wider middle half than this is noise, not a result. */
const NOISY = 0.35;

export function judge(comparison: Comparison, runs: readonly Run[]): Line {
  const { name, unit, better, goal } = comparison;
  const shown = goal === undefined ? null : `${better === 'higher' ? '≥' : '≤'} ${goal}`;
  const nothing = (note: string): Line => ({
    ...{
      name,
      ours: null,
      peer: null,
      unit,
      ratio: null,
      goal: shown,
      met: null,
      runs: 0,
      spread: null,
      note,
    },
  });
  const ours = figures(comparison.ours, runs);
  const peer = comparison.peer === undefined ? undefined : figures(comparison.peer, runs);
  const turns = [...ours.keys()].filter((turn) => peer === undefined || peer.has(turn));
  if (turns.length === 0) return nothing(`failed: ${whyNone(comparison, runs)}`);
  const values = turns.map((turn) => ours.get(turn)!);
  const others = peer && turns.map((turn) => peer.get(turn)!);
  if (others?.includes(0)) return nothing('failed: the peer moved nothing');
  const compared = others === undefined ? values : values.map((value, i) => value / others[i]!);
  const width = spread(compared);
  if (width > NOISY && !compared.every(isFew)) {
    return nothing(`noisy: the middle half of ${turns.length} runs is ${percent(width)} wide`);
  }
  const result = median(compared);
  return {
    name,
    ours: median(values),
    peer: others === undefined ? null : median(others),
    unit,
    ratio: others === undefined ? null : result,
    goal: shown,
    met: goal === undefined ? null : better === 'higher' ? result >= goal : result <= goal,
    runs: turns.length,
    spread: turns.length > 1 ? width : null,
  };
}

/** Whether more turns could help. */
export const wantsMore = (line: Line): boolean => line.note?.startsWith('noisy') ?? false;

/** Counts of a few are as they are: 0, 1 and 0 packets lost are no noise. */
const isFew = (value: number): boolean => Number.isInteger(value) && Math.abs(value) <= 2;

const percent = (share: number): string => `${Math.round(share * 100)} %`;

function figures(path: string, runs: readonly Run[]): Map<number, number> {
  const [side = '', figure = ''] = path.split('.');
  const found = new Map<number, number>();
  for (const run of runs) {
    const value = run.side === side ? run.sample?.[figure] : undefined;
    if (value !== undefined) found.set(run.turn, value);
  }
  return found;
}

function whyNone({ ours, peer }: Comparison, runs: readonly Run[]): string {
  for (const path of [ours, peer]) {
    const [side = ''] = path?.split('.') ?? [];
    const failed = runs.find((run) => run.side === side && run.failure !== undefined);
    if (failed !== undefined) return `${side}: ${failed.failure}`;
  }
  return `no run has ${ours}${peer === undefined ? '' : ` beside ${peer}`}`;
}
