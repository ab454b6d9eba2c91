/**
 * The plots of a measurement, as SVG files that need nothing else and are readable on white and on black pages.
 *
 * Observable Plot draws them over linkedom's document: without a browser, and without a script in the file.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import type { Sample } from './benchmark.ts';
import { median, throughputOf } from './statistics.ts';
import type { Line, Run } from './verdict.ts';

/** Of text and axes: a grey that shows on either page. */
const INK = '#808890';
/** Also told apart by their lightness. */
const COLOURS = { good: '#2e7d4f', bad: '#c0392b', first: '#2463a6', second: '#d08a00' } as const;

export interface Measured {
  readonly lines: readonly Line[];
  readonly runs: Readonly<Record<string, readonly Run[]>>;
}

/** Every plot for which the benchmarks were measured, by file name without the extension. */
export function plots({ lines, runs }: Measured): Record<string, string> {
  const medianOf = (benchmark: string, variant: string): Sample | undefined =>
    medians(
      (runs[benchmark] ?? []).flatMap((run) => (run.variant === variant && run.sample ? [run.sample] : [])),
    );
  const failover = medianOf('failover', 'port');
  const [memory, veth] = [medianOf('scaling', 'memory'), medianOf('scaling', 'veth')];
  return {
    goals: goalsPlot(lines),
    ...(failover && { failover: failoverPlot(failover) }),
    ...(memory && veth && { scaling: scalingPlot({ memory, veth }) }),
  };
}

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

/** Every ratio that has a goal, as a multiple of that goal: 1 is the goal itself, more is better. Bars: half the runs. */
export function goalsPlot(lines: readonly Line[]): string {
  const marks = lines.flatMap(({ name, ratio, goal, met, spread }) => {
    const bound = Number(goal?.slice(2));
    if (ratio === null || met === null || !(bound > 0)) return [];
    const times = goal!.startsWith('≥') ? ratio / bound : bound / ratio;
    const half = (times * (spread ?? 0)) / 2;
    return [{ name, times, low: times - half, high: times + half, colour: met ? COLOURS.good : COLOURS.bad }];
  });
  const bar = { y: 'name', x1: 'low', x2: 'high', stroke: 'colour', strokeWidth: 3, strokeOpacity: 0.45 };
  const label = 'times the goal (1 = the goal; right of it is better) →';
  const ticks = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100];
  return svg({
    height: 70 + 22 * marks.length,
    marginBottom: 46,
    marginLeft: 190,
    x: { type: 'log', label, labelOffset: 42, ticks, tickFormat: '~g', grid: true },
    y: { label: null, domain: marks.map(({ name }) => name) },
    color: { type: 'identity' },
    marks: [
      Plot.ruleX([1], { stroke: INK, strokeWidth: 1.5 }),
      Plot.ruleY(marks, bar),
      Plot.dot(marks, { y: 'name', x: 'times', fill: 'colour', r: 5 }),
    ],
  });
}

/** How long switches take: the percentiles of the benchmark `failover`, in both directions. */
function failoverPlot(sample: Sample): string {
  const ranks = { P50: '50', P90: '90', P99: '99', Max: 'max' };
  const directions = { away: 'away from the VF', back: 'back to the VF' };
  const moments = {
    Detect: 'event → port knows (back: sockets open)',
    Switch: 'that → queue sends through the other path',
    Outside: 'event → first packet seen outside',
  };
  const points = Object.entries(directions).flatMap(([direction, fx]) =>
    Object.entries(moments).flatMap(([moment, what]) =>
      Object.entries(ranks).map(([rank, x]) => ({
        fx,
        what,
        x,
        millis: sample[`${direction}${moment}${rank}`]!,
      })),
    ),
  );
  const of = { fx: 'fx', x: 'x', y: 'millis', stroke: 'what' };
  const names = Object.values(moments);
  const legend = { fx: 'fx', text: 'what', fill: 'what', frameAnchor: 'middle' } as const;
  return svg({
    height: 300,
    fx: { label: null, domain: Object.values(directions) },
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

/** Speed-up by workers: what was measured, the universal scalability law through it, and its uncertainty. */
function scalingPlot(samples: Readonly<Record<string, Sample>>): string {
  const many = 8;
  const paths = Object.entries(samples);
  const law = paths.flatMap(([path, { alpha, beta }]) =>
    Array.from({ length: 4 * (many - 1) + 1 }, (_, i) => 1 + i / 4).map((workers) => {
      const speedup = throughputOf({ gamma: 1, alpha: alpha!, beta: beta! }, workers);
      return { path, workers, speedup };
    }),
  );
  const measured = paths.flatMap(([path, { one, two }]) => [
    { path, workers: 1, speedup: 1 },
    { path, workers: 2, speedup: two! / one! },
  ]);
  const uncertain = paths.map(([path, { manyLow, manyHigh }], i) => ({
    path,
    workers: many + i / 8,
    low: manyLow,
    high: manyHigh,
  }));
  const of = { x: 'workers', y: 'speedup', stroke: 'path' };
  const bar = { x: 'workers', y1: 'low', y2: 'high', stroke: 'path', strokeWidth: 4, strokeOpacity: 0.5 };
  const legend = { text: 'path', fill: 'path', frameAnchor: 'top-left', dx: 16 } as const;
  return svg({
    height: 330,
    marginBottom: 46,
    x: { label: 'workers →', labelOffset: 42, domain: [1, many + 0.4], ticks: many, tickFormat: 'd' },
    y: { label: '↑ times the throughput of one', domain: [0, many], grid: true },
    color: { domain: paths.map(([path]) => path), range: [COLOURS.first, COLOURS.second] },
    marks: [
      Plot.line([1, many], { x: (n) => n, y: (n) => n, stroke: INK, strokeDasharray: '4 4' }),
      Plot.line(law, { ...of, strokeWidth: 1.5, strokeDasharray: '2 3' }),
      Plot.ruleX(uncertain, bar),
      Plot.dot(measured, { ...of, fill: 'path', r: 5 }),
      ...paths.map(([path], i) => Plot.text([{ path }], { ...legend, dy: 16 + 18 * i })),
    ],
  });
}
