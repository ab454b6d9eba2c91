/**
 * The results as text: a table for a terminal, and the tables and plots that `--publish` puts into perf/.
 *
 * Publishing replaces the text between marks in two pages, draws the plots in perf/plots/, and keeps the samples behind both in
 * perf/published.json.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.ts';
import type { Benchmark } from './benchmark.ts';
import { BENCHMARKS } from './benchmarks.ts';
import { plots } from './plots.ts';
import { inWords, type Results } from './results.ts';
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

/** A Markdown table of the results: what was measured, both figures, the ratio and its goal. */
export function markdownTable(shown: readonly Shown[]): string {
  return [
    '| measure | ours | peer | ratio | goal | runs, spread |',
    '| --- | ---: | ---: | ---: | --- | --- |',
    ...shown.flatMap(({ benchmark, lines }) => lines.map((line) => markdownLine(benchmark, line))),
  ].join('\n');
}

function markdownLine({ comparisons }: Benchmark, line: Line): string {
  const { name, ours, peer, unit, ratio, goal, met, runs, spread, note } = line;
  const measure = `\`${name}\`: ${comparisons.find((one) => one.name === name)?.about ?? ''}`;
  if (note !== undefined) return cells(measure, '', '', '', goal ?? '', note);
  const [own, other] = [ours, peer].map((value) => (value === null ? '' : `${figure(value)} ${unit}`));
  const outcome = met === null ? (goal ?? '') : `${goal} ${met ? 'met' : '**missed**'}`;
  const certainty = [runs, percent(spread)].filter(Boolean).join(', ');
  return cells(measure, own!, other!, figure(ratio), outcome, certainty);
}

/** A Markdown table of the benchmarks: what each measures, and how often and how long. */
export function benchmarkTable(benchmarks: readonly Benchmark[]): string {
  return [
    '| benchmark | measures | runs of | seconds each |',
    '| --- | --- | --- | --- |',
    ...benchmarks.map(({ name, about, variants, full, onRequest }) => {
      const measures = onRequest ? `${about} (only when it is named)` : about;
      return cells(
        `\`${name}\``,
        measures,
        `${full.runs} × ${Object.keys(variants).join(', ')}`,
        `${full.seconds}`,
      );
    }),
  ].join('\n');
}

const cells = (...texts: string[]): string => `| ${texts.join(' | ')} |`;

const percent = (share: number | null): string => (share === null ? '' : `${Math.round(share * 100)} %`);

/** Three significant digits, without an exponent. */
export function figure(value: number | null): string {
  if (value === null) return '';
  const size = Math.abs(value);
  if (size >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** The results in short: the first line of each benchmark, and every goal that is missed. */
export const headlines = (shown: readonly Shown[]): readonly Shown[] =>
  shown.map(({ benchmark, lines }) => ({
    benchmark,
    lines: lines.filter((line, i) => i === 0 || line.met === false),
  }));

/** Pages with tables between marks: those that are there get the parts that they have marks for. */
const PAGES = ['perf/README.md', 'docs/performance/README.md'];
const PLOTS = 'perf/plots';

/** @returns the files it wrote, from the package's root */
export function publish(shown: readonly Shown[], results: Results): string[] {
  const { machine, began, runs } = results;
  const place = `${inWords(machine)}; ${began.slice(0, 10)}, commit ${machine.commit}.`;
  const parts = {
    benchmarks: benchmarkTable(BENCHMARKS),
    headlines: `${markdownTable(headlines(shown))}\n\n${place}`,
    results: `${markdownTable(shown)}\n\n${place}`,
  };
  const files: Record<string, string> = { 'perf/published.json': `${JSON.stringify(results)}\n` };
  for (const page of PAGES.filter((page) => existsSync(join(packageRoot, page)))) {
    let text = readFileSync(join(packageRoot, page), 'utf8');
    for (const [part, table] of Object.entries(parts))
      if (text.includes(marksOf(part)[0])) text = between(text, part, table);
    files[page] = text;
  }
  for (const [name, svg] of Object.entries(plots({ lines: shown.flatMap(({ lines }) => lines), runs })))
    files[`${PLOTS}/${name}.svg`] = svg;
  mkdirSync(join(packageRoot, PLOTS), { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(packageRoot, file), text);
  return Object.keys(files);
}

const marksOf = (part: string): readonly [begin: string, end: string] => [
  `<!-- perf ${part}: written by npm run perf -- --publish -->`,
  `<!-- perf ${part}: end -->`,
];

/** A page with the text between the two marks of `part` replaced. @throws Error of a page without them */
export function between(page: string, part: string, text: string): string {
  const [begin, end] = marksOf(part);
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`there are no marks ${begin} … ${end} to write between`);
  return `${page.slice(0, from + begin.length)}\n${text}\n${page.slice(to)}`;
}
