/** How far each result is from its goal. */
import * as Plot from '@observablehq/plot';
import type { Line } from '../verdict.ts';
import { COLOURS, INK, svg } from './svg.ts';

const TICKS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 50, 100];

interface Mark {
  readonly name: string;
  /** How far the result is beyond its goal: 1 is the goal itself, more is better. */
  readonly beyond: number;
  readonly low: number;
  readonly high: number;
  readonly met: boolean;
}

/** All plots of a run, by file name without the extension. */
export function plots({
  shown,
}: {
  readonly shown: readonly { readonly lines: readonly Line[] }[];
}): Record<string, string> {
  return { goals: goalsPlot(shown.flatMap(({ lines }) => lines)) };
}

/** Every ratio that has a goal, as multiples of that goal; the bar is the middle half of the runs. */
export function goalsPlot(lines: readonly Line[]): string {
  const marks = lines.map(mark).filter((one) => one !== undefined);
  const name = (one: Mark): string => one.name;
  return svg({
    height: 70 + 22 * marks.length,
    marginBottom: 46,
    marginLeft: 190,
    x: {
      type: 'log',
      label: 'times the goal (1 = the goal; right of it is better) →',
      labelOffset: 42,
      ticks: TICKS,
      tickFormat: '~g',
      grid: true,
    },
    y: { label: null, domain: marks.map(name) },
    marks: [
      Plot.ruleX([1], { stroke: INK, strokeWidth: 1.5 }),
      Plot.ruleY(marks, {
        y: name,
        x1: 'low',
        x2: 'high',
        stroke: colour,
        strokeWidth: 3,
        strokeOpacity: 0.45,
      }),
      Plot.dot(marks, { y: name, x: 'beyond', fill: colour, r: 5 }),
    ],
  });
}

const colour = (one: Mark): string => (one.met ? COLOURS.good : COLOURS.bad);

function mark({ name, ratio, goal, met, spread }: Line): Mark | undefined {
  const bound = Number(goal?.slice(2));
  if (ratio === null || met === null || !(bound > 0)) return undefined;
  const beyond = goal?.startsWith('≥') ? ratio / bound : bound / ratio;
  const half = (spread ?? 0) / 2;
  return { name, met, beyond, low: beyond * (1 - half), high: beyond * (1 + half) };
}
