/**
 * The plots of a measurement, as SVG files that need nothing else and are readable on white and on black pages.
 *
 * Observable Plot draws them over linkedom's document: without a browser, and without a script in the file.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import type { Benchmark, Sample } from './benchmark.ts';
import { type Kind, standing } from './published.ts';
import { median, throughputOf } from './statistics.ts';
import { timesGoal } from './verdict.ts';

/** Of text and axes: a grey that shows on either page. */
const INK = '#808890';
/** Also told apart by their lightness. */
const COLOURS = { good: '#2e7d4f', bad: '#c0392b', first: '#2463a6', second: '#d08a00' } as const;

/** Of kinds of processors; with more kinds they repeat. */
const SYMBOLS = [
  ['circle', '●'],
  ['square', '■'],
  ['triangle', '▲'],
  ['diamond', '◆'],
] as const;

const symbolOf = (kind: number): (typeof SYMBOLS)[number] => SYMBOLS[kind % SYMBOLS.length]!;

/** Every plot for which the benchmarks were measured on any kind of processor, by file name without the extension. */
export function plots(kinds: readonly Kind[], benchmarks: readonly Benchmark[]): Record<string, string> {
  const failover = kinds.flatMap((kind) => ofKind(kind.name, medianOf(kind, 'failover', 'port')));
  const scaling = kinds.flatMap((kind) =>
    ['memory', 'veth'].flatMap((path) =>
      ofKind(kind.name, medianOf(kind, 'scaling', path)).map((one) => ({ ...one, path })),
    ),
  );
  return {
    goals: goalsPlot(kinds, benchmarks),
    ...(failover.length > 0 && { failover: failoverPlot(failover) }),
    ...(scaling.length > 0 && { scaling: scalingPlot(scaling) }),
  };
}

/** Medians of figures, on a kind of processor. */
interface OfKind {
  readonly kind: string;
  readonly sample: Sample;
}

const ofKind = (kind: string, sample: Sample | undefined): OfKind[] => (sample ? [{ kind, sample }] : []);

const medianOf = ({ published }: Kind, benchmark: string, variant: string): Sample | undefined =>
  medians(
    (published.runs[benchmark] ?? []).flatMap((run) =>
      run.variant === variant && run.sample ? [run.sample] : [],
    ),
  );

/** The median of each figure over the runs. Undefined of no samples. */
function medians(samples: readonly Sample[]): Sample | undefined {
  const [first] = samples;
  if (first === undefined) return undefined;
  const names = Object.keys(first);
  return Object.fromEntries(names.map((name) => [name, median(samples.map((sample) => sample[name]!))]));
}

function svg(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<html><body></body></html>');
  const drawn = Plot.plot({
    width: 760,
    document: document as unknown as NonNullable<Plot.PlotOptions['document']>,
    ...options,
    style: { background: 'none', color: INK, fontFamily: 'system-ui, sans-serif', fontSize: '12px' },
    figure: false,
  });
  drawn.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${drawn.outerHTML}\n`;
}

/**
 * Every ratio that has a goal, as a multiple of that goal: 1 is the goal itself, more is better. Bars: half the runs. Of several
 * kinds of processors each has its symbol, and the one that is worse is filled.
 */
export function goalsPlot(kinds: readonly Kind[], benchmarks: readonly Benchmark[]): string {
  const comparisons = benchmarks.flatMap((benchmark) => benchmark.comparisons);
  const marks = comparisons.flatMap((comparison) => {
    const { lines, worse } = standing(comparison, kinds);
    return lines.flatMap((line, kind) => {
      const times = line === undefined || line.ratio === null ? null : timesGoal(line);
      if (times === null || !Number.isFinite(times) || times <= 0) return [];
      const half = (times * (line!.spread ?? 0)) / 2;
      const colour = line!.met ? COLOURS.good : COLOURS.bad;
      const { name } = comparison;
      return [{ name, kind, times, low: times - half, high: times + half, colour, filled: kind === worse }];
    });
  });
  const names = [...new Set(marks.map(({ name }) => name))];
  const bar = { y: 'name', x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 3, strokeOpacity: 0.45 };
  const label = 'times the goal (1 = the goal; right of it is better) →';
  const ticks = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100];
  const several = kinds.length > 1;
  const legend = kinds.map(({ name }, kind) => `${symbolOf(kind)[1]} ${name}`).join('   ');
  const dots = kinds.flatMap((_, kind) => {
    const symbol = symbolOf(kind)[0];
    const own = marks.filter((mark) => mark.kind === kind);
    const of = { y: 'name', x: 'times', symbol, r: 5 };
    return [
      Plot.dot(
        own.filter(({ filled }) => !filled),
        { ...of, stroke: 'colour', strokeWidth: 1.5 },
      ),
      Plot.dot(
        own.filter(({ filled }) => filled),
        { ...of, fill: 'colour' },
      ),
    ];
  });
  return svg({
    height: (several ? 90 : 70) + 22 * names.length,
    marginTop: several ? 40 : 20,
    marginBottom: 46,
    marginLeft: 210,
    x: { type: 'log', label, labelOffset: 42, ticks, tickFormat: '~g', grid: true },
    y: { label: null, domain: names },
    color: { type: 'identity' },
    marks: [
      Plot.ruleX([1], { stroke: INK, strokeWidth: 1.5 }),
      Plot.ruleY(marks, bar),
      ...dots,
      ...(several
        ? [
            Plot.text([`${legend}   (filled: the worse, which is judged)`], {
              text: (text) => text,
              frameAnchor: 'top-right',
              dy: -24,
            }),
          ]
        : []),
    ],
  });
}

/** How long switches take: the percentiles of the benchmark `failover`, in both directions, a row for each kind of processor. */
function failoverPlot(samples: readonly OfKind[]): string {
  const ranks = { P50: '50', P90: '90', P99: '99', Max: 'max' };
  const directions = { away: 'away from the VF', back: 'back to the VF' };
  const moments = {
    Detect: 'event → port knows (back: sockets open)',
    Switch: 'that → queue sends through the other path',
    Outside: 'event → first packet seen outside',
  };
  const points = samples.flatMap(({ kind, sample }) =>
    Object.entries(directions).flatMap(([direction, fx]) =>
      Object.entries(moments).flatMap(([moment, what]) =>
        Object.entries(ranks).map(([rank, x]) => {
          return { kind, fx, what, x, millis: sample[`${direction}${moment}${rank}`]! };
        }),
      ),
    ),
  );
  const several = samples.length > 1;
  const of = { fx: 'fx', ...(several && { fy: 'kind' }), x: 'x', y: 'millis', stroke: 'what' };
  const names = Object.values(moments);
  const legend = { fx: 'fx', text: 'what', fill: 'what', frameAnchor: 'middle' } as const;
  return svg({
    height: 60 + 240 * samples.length,
    ...(several && { marginRight: 90 }),
    fx: { label: null, domain: Object.values(directions) },
    fy: { label: null },
    x: { label: 'percentile', domain: Object.values(ranks), type: 'point' },
    y: { type: 'log', label: '↑ ms', grid: true, tickFormat: '~g', nice: true },
    color: { domain: names, range: [COLOURS.first, COLOURS.good, COLOURS.second] },
    marks: [
      Plot.lineY(points, { ...of, z: 'what', strokeWidth: 2 }),
      Plot.dot(points, { ...of, fill: 'what', r: 3.5 }),
      ...names.map((what, i) => Plot.text([{ fx: directions.back, what }], { ...legend, dy: 18 * i - 30 })),
    ],
  });
}

/** A path of the benchmark `scaling`. */
interface OfPath extends OfKind {
  readonly path: string;
}

/** Speed-up by workers: what was measured, the universal scalability law through it, and its uncertainty. A column for each kind. */
function scalingPlot(samples: readonly OfPath[]): string {
  const many = 8;
  const law = samples.flatMap(({ kind, path, sample: { alpha, beta } }) =>
    Array.from({ length: 4 * (many - 1) + 1 }, (_, i) => 1 + i / 4).map((workers) => {
      const speedup = throughputOf({ gamma: 1, alpha: alpha!, beta: beta! }, workers);
      return { kind, path, workers, speedup };
    }),
  );
  const measured = samples.flatMap(({ kind, path, sample: { one, two } }) => [
    { kind, path, workers: 1, speedup: 1 },
    { kind, path, workers: 2, speedup: two! / one! },
  ]);
  const paths = [...new Set(samples.map(({ path }) => path))];
  const uncertain = samples.map(({ kind, path, sample: { manyLow, manyHigh } }) => ({
    ...{ kind, path, low: manyLow, high: manyHigh },
    workers: many + paths.indexOf(path) / 8,
  }));
  const facet = new Set(samples.map(({ kind }) => kind)).size > 1 ? { fx: 'kind' } : {};
  const of = { ...facet, x: 'workers', y: 'speedup', stroke: 'path' };
  const bar = {
    ...{ ...facet, x: 'workers', y1: 'low', y2: 'high' },
    ...{ stroke: 'path', strokeWidth: 4, strokeOpacity: 0.5 },
  };
  const legend = { text: 'path', fill: 'path', frameAnchor: 'top-left', dx: 16 } as const;
  return svg({
    height: 330,
    marginTop: 40, // the axis' label is above the names of the kinds
    marginBottom: 46,
    x: { label: 'workers →', labelOffset: 42, domain: [1, many + 0.4], ticks: many, tickFormat: 'd' },
    y: { label: '↑ times the throughput of one', domain: [0, many], grid: true },
    fx: { label: null },
    color: { domain: paths, range: [COLOURS.first, COLOURS.second] },
    marks: [
      Plot.line([1, many], { x: (n) => n, y: (n) => n, stroke: INK, strokeDasharray: '4 4' }),
      Plot.line(law, { ...of, strokeWidth: 1.5, strokeDasharray: '2 3' }),
      Plot.ruleX(uncertain, bar),
      Plot.dot(measured, { ...of, fill: 'path', r: 5 }),
      ...paths.map((path, i) => Plot.text([{ path }], { ...legend, dy: 16 + 18 * i })),
    ],
  });
}
