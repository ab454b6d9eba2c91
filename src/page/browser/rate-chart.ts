/** Rates of one direction, a line for each path: which one carries the traffic is the line that is not at zero. */
import type uPlot from 'uplot';
import type { PathKey, Sample } from '../messages.ts';
import { DASHES, type Theme } from './theme.ts';
import { type ChartEvents, type ChartKind, TimeChart } from './time-chart.ts';
import { axisText, type RateUnit } from './units.ts';

export type Direction = 'in' | 'out';

export const PATHS = ['vf', 'synthetic', 'host'] as const satisfies readonly PathKey[];

/** Where a {@link Flow} has the rate. */
export function flowIndex(direction: Direction, unit: RateUnit): 0 | 1 | 2 | 3 {
  if (direction === 'in') return unit === 'pps' ? 0 : 1;
  return unit === 'pps' ? 2 : 3;
}

/** The top of an idle port's axis. */
const LEAST: Readonly<Record<RateUnit, number>> = { pps: 100, 'bit/s': 100_000 };

export class RateChart {
  readonly #chart: TimeChart;
  readonly #direction: Direction;
  #unit: RateUnit = 'pps';

  constructor(host: HTMLElement, direction: Direction, events: ChartEvents) {
    this.#direction = direction;
    const kind: ChartKind = {
      height: 136,
      times: false,
      flags: direction === 'in',
      label: `Rates ${direction} by path over the last minutes; the figures above have the present ones`,
      axis: () => ({
        values: (_chart, splits) => splits.map((value) => axisText(value, this.#unit)),
        space: 28,
      }),
      // From 0: a line that looks twice as high is twice as much.
      scale: () => ({
        range: (_chart, _least, most) => [0, Math.max(LEAST[this.#unit], (most ?? 0) * 1.08)],
      }),
      series: (theme) => PATHS.map((path) => line(path, theme)),
    };
    this.#chart = new TimeChart(host, kind, events);
  }

  rebuild(): void {
    this.#chart.rebuild();
  }

  show(
    samples: readonly Sample[],
    port: number,
    seconds: readonly number[],
    unit: RateUnit,
    ...rest: [range: readonly [number, number], marks: Parameters<TimeChart['show']>[2]]
  ): void {
    this.#unit = unit;
    const index = flowIndex(this.#direction, unit);
    const rates = PATHS.map((path) => samples.map(({ ports }) => ports[port]?.[path][index] ?? null));
    this.#chart.show([[...seconds], ...rates] as uPlot.AlignedData, ...rest);
  }
}

function line(path: PathKey, theme: Theme): uPlot.Series {
  const stroke = theme.paths[path];
  return {
    stroke,
    width: path === 'host' ? 1.5 : 2,
    dash: DASHES[path],
    ...(path !== 'host' && { fill: `${stroke}2e` }),
    // A rate is that of the time before its sample.
    paths: window.uPlot.paths.stepped!({ align: -1 }),
    points: { show: false },
  };
}
