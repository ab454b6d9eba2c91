/** How long switches take: the percentiles of the row `failover`, in both directions. */
import * as Plot from '@observablehq/plot';
import type { Sample } from '../row.ts';
import { COLOURS, svg } from './svg.ts';

const RANKS = ['P50', 'P90', 'P99', 'Max'] as const;
const DIRECTIONS = { away: 'away from the VF', back: 'back to the VF' } as const;
const MOMENTS = {
  Detect: 'event → coordinator knows (back: sockets open)',
  Switch: 'that → queue sends by the other path',
  Outside: 'event → first packet seen outside',
} as const;

export function failoverPlot(sample: Sample): string {
  const points = Object.entries(DIRECTIONS).flatMap(([direction, shown]) =>
    Object.entries(MOMENTS).flatMap(([moment, what]) =>
      RANKS.map((rank) => ({
        ...{ direction: shown, what, rank: rank === 'Max' ? 'max' : rank.slice(1) },
        millis: sample[`${direction}${moment}${rank}`]!,
      })),
    ),
  );
  const of = { fx: 'direction', x: 'rank', y: 'millis', stroke: 'what' };
  return svg({
    height: 300,
    fx: { label: null, domain: Object.values(DIRECTIONS) },
    x: {
      label: 'percentile',
      domain: RANKS.map((rank) => (rank === 'Max' ? 'max' : rank.slice(1))),
      type: 'point',
    },
    y: { type: 'log', label: '↑ ms', grid: true, tickFormat: '~g', nice: true },
    color: {
      domain: Object.values(MOMENTS),
      range: [COLOURS.first, COLOURS.good, COLOURS.second],
    },
    marks: [
      Plot.lineY(points, { ...of, z: 'what', strokeWidth: 2 }),
      Plot.dot(points, { ...of, fill: 'what', r: 3.5 }),
      ...Object.values(MOMENTS).map((what, i) =>
        Plot.text([{ direction: DIRECTIONS.back, what }], {
          ...{ fx: 'direction', text: 'what', fill: 'what', frameAnchor: 'middle', dy: 18 * i - 30 },
        }),
      ),
    ],
  });
}
