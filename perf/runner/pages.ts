/**
 * The tables and plots that `--publish` puts into perf/ and docs/performance, of all kinds of processors that are published.
 *
 * Publishing replaces the text between marks in two pages, draws the plots in perf/plots/, and keeps the samples behind both in
 * perf/published/ (published.ts).
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.ts';
import type { Benchmark, Comparison } from './benchmark.ts';
import { plots } from './plots.ts';
import {
  type Kind,
  keep,
  type Measured,
  measuredAt,
  type PublishedOptions,
  type Standing,
  standing,
} from './published.ts';
import { figure, percent } from './report.ts';
import { inWords, type Results } from './results.ts';
import type { Line } from './verdict.ts';

/** A row of a table: what is measured, and how it stands. */
export interface Row extends Standing {
  readonly benchmark: string;
  readonly comparison: Comparison;
}

/** The rows of all benchmarks that any kind has results of, those included that are newer than the results. */
export const rowsOf = (kinds: readonly Kind[], benchmarks: readonly Benchmark[]): Row[] =>
  benchmarks
    .filter(({ name }) => kinds.some(({ published }) => published.runs[name] !== undefined))
    .flatMap(({ name, comparisons }) =>
      comparisons.map((comparison) => ({ benchmark: name, comparison, ...standing(comparison, kinds) })),
    );

/** The results in short: the first row of each benchmark, and every goal that is missed. */
export const headlines = (rows: readonly Row[]): readonly Row[] =>
  rows.filter(({ benchmark, met }, i) => rows[i - 1]?.benchmark !== benchmark || met === false);

const OLDER = 'Older: measured before the newest change of the code.';

/**
 * A Markdown table of results, and below it where and when they were measured. Of one kind of processor it has a column for each
 * figure. Of several it has a column for each kind, and one that names the kind by which the goal is judged.
 */
export function resultTable(rows: readonly Row[], kinds: readonly Kind[]): string {
  const [only] = kinds;
  const table =
    kinds.length === 1 ? rows.map((row) => lineOfOne(row, only!)) : rows.map((row) => lineOfMany(row, kinds));
  const names = kinds.map(({ name }) => name);
  const head =
    kinds.length === 1
      ? [
          '| measure | ours | peer | ratio | goal | runs, spread |',
          '| --- | ---: | ---: | ---: | --- | --- |',
        ]
      : [cells('measure', ...names, 'goal', 'worse'), cells('---', ...names.map(() => '---:'), '---', '---')];
  const places = kinds.map((kind) => place(kind, kinds.length > 1));
  const anyOlder = rows.some(({ benchmark }) => kinds.some(({ older }) => older.has(benchmark)));
  return [...head, ...table, '', places.join('  \n'), ...(anyOlder ? ['', OLDER] : [])].join('\n');
}

const measure = ({ name, about }: Comparison): string => `\`${name}\`: ${about}`;

function lineOfOne({ benchmark, comparison, lines, met }: Row, kind: Kind): string {
  const [line] = lines;
  const goal = outcome(comparison, met);
  if (line === undefined || line.note !== undefined)
    return cells(measure(comparison), '', '', '', goal, line?.note ?? 'not measured yet');
  const [own, other] = [line.ours, line.peer].map((value) =>
    value === null ? '' : `${figure(value)} ${line.unit}`,
  );
  return cells(measure(comparison), own!, other!, figure(line.ratio), goal, certainty(line, benchmark, kind));
}

function lineOfMany({ benchmark, comparison, lines, met, worse }: Row, kinds: readonly Kind[]): string {
  const results = lines.map((line, i) => {
    if (line === undefined) return 'not measured yet';
    if (line.note !== undefined) return line.note;
    const figures = [line.ours, line.peer].filter((value) => value !== null).map(figure);
    const ratio = line.ratio === null ? '' : ` = ${figure(line.ratio)}`;
    return `${figures.join(' ÷ ')} ${line.unit}${ratio} (${certainty(line, benchmark, kinds[i]!)})`;
  });
  const compared = lines.filter((line) => line !== undefined && line.note === undefined).length > 1;
  const judge = worse === undefined || !compared ? '' : kinds[worse]!.name;
  return cells(measure(comparison), ...results, outcome(comparison, met), judge);
}

function outcome({ goal, best }: Comparison, met: boolean | null): string {
  if (goal === undefined) return '';
  const all = best === undefined ? goal : `${goal}, on the better ${best}`;
  return met === null ? all : `${all} ${met ? 'met' : '**missed**'}`;
}

function certainty({ runs, spread }: Line, benchmark: string, { older }: Kind): string {
  return [runs, percent(spread), older.has(benchmark) && 'older'].filter(Boolean).join(', ');
}

/** The machine, and when what was measured. */
function place({ name, published }: Kind, named: boolean): string {
  const { machine, runs } = published;
  const newest = { began: published.began, commit: machine.commit };
  const others = new Map<string, string[]>();
  for (const benchmark of Object.keys(runs)) {
    const when = inDays(measuredAt(published, benchmark));
    if (when !== inDays(newest)) others.set(when, [...(others.get(when) ?? []), `\`${benchmark}\``]);
  }
  const rest = [...others].map(([when, benchmarks]) => ` ${benchmarks.join(', ')}: ${when}.`);
  return `${named ? `${name}: ` : ''}${inWords(machine)}; ${inDays(newest)}.${rest.join('')}`;
}

const inDays = ({ began, commit }: Measured): string =>
  `${began.slice(0, 10)}${commit === '' ? '' : `, commit ${commit}`}`;

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

/** Pages with tables between marks: those that are there get the parts that they have marks for. */
const PAGES = ['perf/README.md', 'docs/performance/README.md'];
const PLOTS = 'perf/plots';

/** Publishes a measurement, beside those of other kinds of processors. @returns the files it wrote, from the package's root */
export function publish(
  results: Results,
  benchmarks: readonly Benchmark[],
  options: PublishedOptions = {},
): string[] {
  const { root = packageRoot } = options;
  const { kinds, file } = keep(results, benchmarks, options);
  const rows = rowsOf(kinds, benchmarks);
  const parts = {
    benchmarks: benchmarkTable(benchmarks),
    headlines: resultTable(headlines(rows), kinds),
    results: resultTable(rows, kinds),
  };
  const files: Record<string, string> = {};
  for (const page of PAGES.filter((page) => existsSync(join(root, page)))) {
    let text = readFileSync(join(root, page), 'utf8');
    for (const [part, table] of Object.entries(parts))
      if (text.includes(marksOf(part)[0])) text = between(text, part, table);
    files[page] = text;
  }
  for (const [name, svg] of Object.entries(plots(kinds, benchmarks))) files[`${PLOTS}/${name}.svg`] = svg;
  mkdirSync(join(root, PLOTS), { recursive: true });
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  return [file, ...Object.keys(files)];
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
