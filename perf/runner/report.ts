/** The results of a measurement as a table for a terminal. The published ones are in pages.ts. */
import type { Benchmark } from './benchmark.ts';
import type { Line } from './verdict.ts';

/** A benchmark and its results. */
export interface Shown {
  readonly benchmark: Benchmark;
  readonly lines: readonly Line[];
}

/** Lines for a terminal. */
export function textTable(shown: readonly Shown[]): string {
  const all = shown.flatMap(({ lines }) => lines);
  const head = ['', 'ours', 'peer', 'unit', 'ratio', 'goal', '', 'runs', 'spread'];
  const cells = [head, ...all.map(textCells)];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const left = new Set([0, 3, 6]);
  const pad = (cell: string, i: number): string =>
    left.has(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!);
  const table = cells.map((row) => row.map(pad).join('  ').trimEnd());
  const notes = all.flatMap(({ name, note }) => (note === undefined ? [] : [`${name}: ${note}`]));
  return [...table, ...(notes.length === 0 ? [] : ['', ...notes])].join('\n');
}

function textCells({ name, ours, peer, unit, ratio, goal, met, runs, spread, note }: Line): string[] {
  if (note !== undefined) return [name, '-', '-', unit, '-', goal ?? '', 'no result', '', ''];
  const outcome = met === null ? '' : met ? 'met' : 'MISSED';
  const numbers = [figure(ours), figure(peer), unit, figure(ratio)];
  return [name, ...numbers, goal ?? '', outcome, String(runs), percent(spread)];
}

/** Empty of null. */
export const percent = (share: number | null): string =>
  share === null ? '' : `${Math.round(share * 100)} %`;

/** Three significant digits, without an exponent. */
export function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
