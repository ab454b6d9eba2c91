/** Speed-up by workers: what was measured, the universal scalability law through it, and how far to believe it. */
import * as Plot from '@observablehq/plot';
import type { Sample } from '../row.ts';
import { throughputOf } from '../scalability.ts';
import { COLOURS, INK, svg } from './svg.ts';

/** What the law is drawn to, and what the row's doubt is for. */
const MANY = 8;
const WORKERS = Array.from({ length: 4 * (MANY - 1) + 1 }, (_, i) => 1 + i / 4);

export function scalingPlot(samples: Readonly<Record<string, Sample>>): string {
  const paths = Object.entries(samples);
  const law = paths.flatMap(([path, { alpha, beta }]) =>
    WORKERS.map((workers) => ({
      ...{ path, workers, speedup: throughputOf({ gamma: 1, alpha: alpha!, beta: beta! }, workers) },
    })),
  );
  const measured = paths.flatMap(([path, { one, two }]) => [
    { path, workers: 1, speedup: 1 },
    { path, workers: 2, speedup: two! / one! },
  ]);
  const doubt = paths.map(([path, { manyLow, manyHigh }], i) => ({
    ...{ path, workers: MANY + i / 8, low: manyLow, high: manyHigh },
  }));
  const of = { x: 'workers', y: 'speedup', stroke: 'path' };
  return svg({
    height: 330,
    marginBottom: 46,
    x: { label: 'workers →', labelOffset: 42, domain: [1, MANY + 0.4], ticks: MANY, tickFormat: 'd' },
    y: { label: '↑ times the throughput of one', domain: [0, MANY], grid: true },
    color: { domain: paths.map(([path]) => path), range: [COLOURS.first, COLOURS.second] },
    marks: [
      Plot.line([1, MANY], { x: (n) => n, y: (n) => n, stroke: INK, strokeDasharray: '4 4' }),
      Plot.line(law, { ...of, strokeWidth: 1.5, strokeDasharray: '2 3' }),
      Plot.ruleX(doubt, {
        x: 'workers',
        y1: 'low',
        y2: 'high',
        stroke: 'path',
        strokeWidth: 4,
        strokeOpacity: 0.5,
      }),
      Plot.dot(measured, { ...of, fill: 'path', r: 5 }),
      ...paths.map(([path], i) =>
        Plot.text([{ path }], {
          ...{ text: 'path', fill: 'path', frameAnchor: 'top-left', dx: 16, dy: 16 + 18 * i },
        }),
      ),
    ],
  });
}
