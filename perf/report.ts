/** The results as text: one table for a terminal or a Markdown page. */
import type { Comparison, Row } from './row.ts';
import type { Line } from './verdict.ts';

/** A result with what the row says of it. */
export interface Shown {
  readonly row: Row;
  readonly lines: readonly Line[];
}

/** Lines for a terminal. */
export function textTable(shown: readonly Shown[]): string {
  const cells = shown.flatMap(({ lines }) => lines.map(textCells));
  const head = ['', 'ours', 'peer', 'unit', 'ratio', 'goal', '', 'runs', 'spread'];
  const all = [head, ...cells];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const left = new Set([0, 3, 6]);
  const table = all.map((row) =>
    row
      .map((cell, i) => (left.has(i) ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
  const notes = shown.flatMap(({ lines }) =>
    lines.filter(({ note }) => note !== undefined).map(({ name, note }) => `${name}: ${note}`),
  );
  return [...table, ...(notes.length === 0 ? [] : ['', ...notes])].join('\n');
}

function textCells(line: Line): string[] {
  const { name, ours, peer, unit, ratio, goal, met, runs, spread, note } = line;
  if (note !== undefined) return [name, '-', '-', unit, '-', goal ?? '', 'no result', '', ''];
  return [
    ...[name, figure(ours), figure(peer), unit, figure(ratio), goal ?? ''],
    ...[met === null ? '' : met ? 'met' : 'MISSED', String(runs), share(spread)],
  ];
}

/** Rows of a Markdown table: what was measured, both figures, the ratio, its goal. */
export function markdownTable(shown: readonly Shown[]): string {
  const head =
    '| measure | ours | peer | ratio | goal | runs, spread |\n| --- | ---: | ---: | ---: | --- | --- |';
  const rows = shown.flatMap(({ row, lines }) =>
    lines.map((line) => {
      const { name, ours, peer, unit, ratio, goal, met, runs, spread, note } = line;
      const about = aboutOf(row, name);
      if (note !== undefined) return `| \`${name}\`: ${about} | | | | ${goal ?? ''} | ${note} |`;
      const outcome = met === null ? (goal ?? '') : `${goal} ${met ? 'met' : '**missed**'}`;
      const both = [ours, peer].map((value) => (value === null ? '' : `${figure(value)} ${unit}`));
      return `| \`${name}\`: ${about} | ${both.join(' | ')} | ${figure(ratio)} | ${outcome} | ${[runs, share(spread)].filter(Boolean).join(', ')} |`;
    }),
  );
  return [head, ...rows].join('\n');
}

const share = (spread: number | null): string => (spread === null ? '' : `${Math.round(spread * 100)} %`);

const aboutOf = (row: Row, name: string): string =>
  row.comparisons.find((comparison: Comparison) => comparison.name === name)?.about ?? '';

/** Three digits that count, without an exponent. */
export function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
