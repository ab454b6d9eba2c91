/** Which path owns each queue, over time: a row for each queue. Paths differ by colour, by hatching and by their names. */
import type uPlot from 'uplot';
import type { Owner, QueueSwitch } from '../messages.ts';
import { ownerSpans } from './spans.ts';
import { PATH_LABEL, type Theme } from './theme.ts';
import { type ChartEvents, type Mark, TimeChart } from './time-chart.ts';

/** What a strip shows. Times are in seconds since 1970. */
export interface Owners {
  /** The present ones, by queue. */
  readonly now: readonly Owner[];
  readonly switches: readonly QueueSwitch[];
  readonly nowNanos: number;
  secondsOf(nanos: number): number;
}

const ROWS_HEIGHT = 200;
const [LOWEST_ROW, HIGHEST_ROW] = [5, 24];
/** Rows that are high enough for their names. */
const NAMED_ROW = 12;

/** Pixels of a row, so that many queues fit. */
export function rowHeight(queues: number): number {
  return Math.min(HIGHEST_ROW, Math.max(LOWEST_ROW, Math.floor(ROWS_HEIGHT / Math.max(1, queues))));
}

export class OwnerStrip {
  readonly #chart: TimeChart;
  #owners: Owners = { now: [], switches: [], nowNanos: 0, secondsOf: (nanos) => nanos };
  #range: readonly [number, number] = [0, 1];
  #rows = 0;
  #height = HIGHEST_ROW;

  constructor(host: HTMLElement, events: ChartEvents) {
    const strip = this;
    this.#chart = new TimeChart(
      host,
      {
        // 8 above, as in every chart.
        get height() {
          return Math.max(1, strip.#rows) * strip.#height + 8;
        },
        times: true,
        flags: false,
        label: 'Path that owns each queue over the last minutes; the table of queues has the present owner',
        axis: () => ({ grid: { show: false }, values: (_chart, splits) => splits.map(() => '') }),
        scale: () => ({ range: () => [0, Math.max(1, this.#rows)] }),
        series: () => [{ show: false }],
        draw: (chart, theme) => this.#draw(chart, theme),
      },
      events,
    );
  }

  rebuild(): void {
    this.#chart.rebuild();
  }

  show(
    owners: Owners,
    range: readonly [number, number],
    marks: readonly Mark[],
    seconds: readonly number[],
  ): void {
    [this.#owners, this.#range] = [owners, range];
    if (owners.now.length !== this.#rows) {
      this.#rows = owners.now.length;
      this.#height = rowHeight(this.#rows);
      this.#chart.rebuild();
    }
    this.#chart.show([[...seconds], seconds.map(() => null)] as uPlot.AlignedData, range, marks);
  }

  #draw(chart: uPlot, theme: Theme): void {
    const { ctx, bbox } = chart;
    const ratio = devicePixelRatio;
    const { now, switches, nowNanos, secondsOf } = this.#owners;
    const height = bbox.height / Math.max(1, this.#rows);
    const gap = height > 8 * ratio ? 2 * ratio : ratio;
    const fills = fillsOf(ctx, theme, ratio);
    const first = secondsOf(0);
    const everyName = Math.ceil((NAMED_ROW * ratio) / height);
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = 'middle';
    now.forEach((owner, queue) => {
      const y = bbox.top + queue * height;
      if (queue % everyName === 0) {
        ctx.fillStyle = theme.muted;
        ctx.textAlign = 'right';
        ctx.fillText(`queue ${queue}`, bbox.left - 8 * ratio, y + height / 2);
      }
      const own = switches.filter((record) => record.queue === queue);
      const from = (this.#range[0] - first) * 1e9;
      for (const span of ownerSpans(own, from, nowNanos, owner)) {
        const x = chart.valToPos(secondsOf(span.fromNanos), 'x', true);
        const width = chart.valToPos(secondsOf(span.toNanos), 'x', true) - x;
        ctx.fillStyle = fills[span.owner];
        ctx.fillRect(x, y + gap / 2, Math.max(ratio, width), height - gap);
        const label = PATH_LABEL[span.owner];
        if (height < NAMED_ROW * ratio || width < ctx.measureText(label).width + 14 * ratio) continue;
        ctx.textAlign = 'left';
        drawLabel(ctx, label, x + 7 * ratio, y + height / 2, theme, span.owner, ratio);
      }
    });
    ctx.restore();
  }
}

/** On a plate of the plain colour: hatching would cross the letters. */
function drawLabel(
  ctx: CanvasRenderingContext2D,
  label: string,
  x: number,
  y: number,
  theme: Theme,
  owner: Owner,
  ratio: number,
): void {
  const { width } = ctx.measureText(label);
  ctx.fillStyle = theme.paths[owner];
  ctx.fillRect(x - 3 * ratio, y - 7 * ratio, width + 6 * ratio, 14 * ratio);
  ctx.fillStyle = theme.on[owner];
  ctx.fillText(label, x, y + 0.5 * ratio);
}

function fillsOf(
  ctx: CanvasRenderingContext2D,
  theme: Theme,
  ratio: number,
): Record<Owner, string | CanvasPattern> {
  const { vf, synthetic, host, none } = theme.paths;
  return {
    vf,
    host,
    synthetic: hatched(ctx, synthetic, theme.panel, 8 * ratio, 1.5 * ratio),
    none: hatched(ctx, theme.panel, none, 5 * ratio, 1.5 * ratio),
  };
}

/** Diagonal lines on a ground, in tiles that fit each other. */
function hatched(
  ctx: CanvasRenderingContext2D,
  ground: string,
  lines: string,
  size: number,
  width: number,
): string | CanvasPattern {
  const tile = document.createElement('canvas');
  tile.width = tile.height = Math.round(size);
  const context = tile.getContext('2d')!;
  context.fillStyle = ground;
  context.fillRect(0, 0, tile.width, tile.height);
  context.strokeStyle = lines;
  context.lineWidth = width;
  context.beginPath();
  for (const shift of [-tile.width, 0, tile.width]) {
    context.moveTo(shift, tile.height);
    context.lineTo(shift + tile.width, 0);
  }
  context.stroke();
  return ctx.createPattern(tile, 'repeat') ?? ground;
}
