/** A chart over time, by uPlot: the axes, the cursor and the marks of failovers that all charts of the page have in common. */
import type uPlot from 'uplot';
import { readTheme, type Theme } from './theme.ts';
import { clockText } from './units.ts';

declare global {
  interface Window {
    /** uPlot.iife.min.js. */
    readonly uPlot: typeof uPlot;
  }
}

/** A switch, as a mark. */
export interface Mark {
  /** Seconds since 1970. */
  readonly at: number;
  readonly selected: boolean;
}

export interface ChartEvents {
  /** The pointer is at that sample; undefined when it has left. */
  point(index: number | undefined): void;
  /** A click, in seconds since 1970, and how many seconds a few pixels are. */
  pick(at: number, tolerance: number): void;
}

export interface ChartKind {
  readonly height: number;
  /** Whether the time is written below. */
  readonly times: boolean;
  /** Whether marks have a flag at their top. */
  readonly flags: boolean;
  readonly label: string;
  axis(theme: Theme): uPlot.Axis;
  scale(): uPlot.Scale;
  series(theme: Theme): uPlot.Series[];
  /** Draws below the marks. */
  draw?(chart: uPlot, theme: Theme): void;
}

export const AXIS_WIDTH = 84;
const FONT = '12px system-ui, sans-serif';
/** Half a time of day. */
const RIGHT = 28;
const TIME_AXIS_HEIGHT = 26;
/** Around a mark that is clicked. */
const PICK_PIXELS = 12;

export class TimeChart {
  readonly #host: HTMLElement;
  readonly #kind: ChartKind;
  readonly #events: ChartEvents;
  #chart: uPlot | undefined;
  #data: uPlot.AlignedData = [[]];
  #range: readonly [number, number] = [0, 1];
  #marks: readonly Mark[] = [];

  constructor(host: HTMLElement, kind: ChartKind, events: ChartEvents) {
    this.#host = host;
    this.#kind = kind;
    this.#events = events;
    host.setAttribute('role', 'img');
    host.setAttribute('aria-label', kind.label);
    this.rebuild();
    new ResizeObserver(() => this.#resize()).observe(host);
  }

  /** @param range of the time axis, in seconds since 1970 */
  show(data: uPlot.AlignedData, range: readonly [number, number], marks: readonly Mark[]): void {
    [this.#data, this.#range, this.#marks] = [data, range, marks];
    this.#chart?.setData(data);
  }

  /** After a change of theme, or of the height. */
  rebuild(): void {
    this.#chart?.destroy();
    this.#host.replaceChildren();
    this.#chart = new window.uPlot(this.#options(readTheme()), this.#data, this.#host);
  }

  get #height(): number {
    return this.#kind.height + (this.#kind.times ? TIME_AXIS_HEIGHT : 0);
  }

  #resize(): void {
    const width = this.#host.clientWidth;
    if (width > 0 && width !== this.#chart?.width) this.#chart?.setSize({ width, height: this.#height });
  }

  #options(theme: Theme): uPlot.Options {
    const kind = this.#kind;
    const line = { stroke: theme.grid, width: 1 };
    return {
      width: Math.max(1, this.#host.clientWidth),
      height: this.#height,
      padding: [8, RIGHT, kind.times ? 0 : 6, 0],
      legend: { show: false },
      cursor: {
        sync: { key: 'time', setSeries: false },
        drag: { x: false, y: false },
        y: false,
        points: { show: false },
      },
      scales: { x: { time: true, range: () => [...this.#range] }, y: kind.scale() },
      axes: [
        {
          show: kind.times,
          stroke: theme.muted,
          font: FONT,
          size: TIME_AXIS_HEIGHT,
          space: 90,
          grid: line,
          ticks: { ...line, size: 4 },
          values: (_chart, splits) => splits.map((seconds) => clockText(seconds * 1000)),
        },
        {
          stroke: theme.muted,
          font: FONT,
          size: AXIS_WIDTH,
          grid: line,
          ticks: { show: false },
          ...kind.axis(theme),
        },
      ],
      series: [{}, ...kind.series(theme)],
      hooks: {
        draw: [
          (chart) => {
            kind.draw?.(chart, theme);
            this.#drawMarks(chart, theme);
          },
        ],
        setCursor: [(chart) => this.#events.point(chart.cursor.idx ?? undefined)],
        ready: [
          (chart) => {
            chart.over.addEventListener('click', ({ offsetX }) => {
              const at = chart.posToVal(offsetX, 'x');
              this.#events.pick(at, chart.posToVal(offsetX + PICK_PIXELS, 'x') - at);
            });
          },
        ],
      },
    };
  }

  #drawMarks(chart: uPlot, theme: Theme): void {
    const { ctx, bbox } = chart;
    const ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, 0, bbox.width + RIGHT * ratio, bbox.top + bbox.height);
    ctx.clip();
    for (const { at, selected } of this.#marks) {
      const [from, to] = this.#range;
      if (at < from || at > to) continue;
      const x = Math.round(chart.valToPos(at, 'x', true));
      ctx.strokeStyle = theme.marker;
      ctx.fillStyle = theme.marker;
      ctx.lineWidth = (selected ? 2 : 1) * ratio;
      ctx.setLineDash(selected ? [] : [3 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (!this.#kind.flags) continue;
      const half = (selected ? 6 : 4) * ratio;
      ctx.beginPath();
      ctx.moveTo(x - half, bbox.top - half);
      ctx.lineTo(x + half, bbox.top - half);
      ctx.lineTo(x, bbox.top + half);
      ctx.fill();
    }
    ctx.restore();
  }
}
