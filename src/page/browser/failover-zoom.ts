/** One failover, to the microsecond: a bar for each queue with its stages, and the same as a table. */
import type { QueueSwitch } from '../messages.ts';
import type { Store } from './store.ts';
import { html, svg } from './svg.ts';
import { durationOf, STAGES, type Switch } from './switches.ts';
import { PATH_LABEL } from './theme.ts';
import { clockMicrosText, countText, microsText } from './units.ts';

/** The picture's units: it is scaled to the width that it has. */
const WIDTH = 380;
const [LEFT, RIGHT, ROW, TOP, AXIS] = [58, 78, 22, 6, 22];

export class FailoverZoom {
  readonly #host: HTMLElement;
  #shown: string | undefined;

  constructor(host: HTMLElement) {
    this.#host = host;
  }

  show(one: Switch | undefined, store: Store): void {
    const state = one === undefined ? 'none' : `${one.key} ${one.queues.length} ${one.endedNanos}`;
    if (state === this.#shown) return;
    this.#shown = state;
    if (one === undefined) {
      this.#host.replaceChildren(
        html('p', { class: 'empty' }, 'Each failover is shown here with its stages, in microseconds.'),
      );
      return;
    }
    // What was open stays open when another failover takes its place.
    const open = this.#host.querySelector('details')?.open === true;
    this.#host.replaceChildren(
      heading(one, store),
      html('div', { class: 'zoom-picture' }, picture(one)),
      legend(),
      table(one, open),
    );
  }
}

function heading({ from, to, reason, detectedNanos, rescued, drained, ...one }: Switch, store: Store): Node {
  const saved = [
    ...(rescued > 0 ? [`${countText(rescued)} packets rescued`] : []),
    ...(drained > 0 ? [`${countText(drained)} drained`] : []),
  ];
  const took = durationOf({ from, to, reason, detectedNanos, rescued, drained, ...one });
  return html(
    'div',
    { class: 'zoom-head' },
    html('strong', {}, `${PATH_LABEL[from]} → ${PATH_LABEL[to]}: ${reason}`),
    html('span', { class: 'zoom-line' }, `detected ${clockMicrosText(store.wallMillis(detectedNanos))}`),
    html('span', { class: 'zoom-line' }, [`switched in ${microsText(took)}`, ...saved].join(', ')),
  );
}

function picture(one: Switch): Node {
  const { detectedNanos, queues } = one;
  const span = Math.max(1000, durationOf(one));
  const x = (nanos: number): number => LEFT + ((nanos - detectedNanos) / span) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + queues.length * ROW;
  const ticks = ticksOf(span);
  return svg(
    'svg',
    {
      viewBox: `0 0 ${WIDTH} ${bottom + AXIS}`,
      role: 'img',
      'aria-label': `Stages of this failover for ${queues.length} queues; the table below has the numbers`,
    },
    ...ticks.flatMap((nanos) => [
      svg('line', {
        class: 'tick',
        x1: x(detectedNanos + nanos),
        x2: x(detectedNanos + nanos),
        y1: TOP,
        y2: bottom,
      }),
      svg(
        'text',
        { x: x(detectedNanos + nanos), y: bottom + 15, 'text-anchor': 'middle' },
        `${countText(nanos / 1000)} µs`,
      ),
    ]),
    ...queues.flatMap((queue, row) => bar(queue, TOP + row * ROW, x)),
  );
}

function bar(queue: QueueSwitch, y: number, x: (nanos: number) => number): Node[] {
  return [
    svg('text', { x: LEFT - 8, y: y + 15, 'text-anchor': 'end' }, `queue ${queue.queue}`),
    ...STAGES.map(({ name, from, to, text }) => {
      const [left, right] = [x(queue[from]), x(queue[to])];
      return svg(
        'rect',
        { class: `stage ${name}`, x: left, y: y + 4, width: Math.max(0.75, right - left), height: ROW - 8 },
        svg('title', {}, `${text}: ${microsText(queue[to] - queue[from])}`),
      );
    }),
    svg(
      'text',
      { class: 'number', x: x(queue.endedNanos) + 6, y: y + 15 },
      microsText(queue.endedNanos - queue.detectedNanos),
    ),
  ];
}

/** Up to four round numbers, from 0 on. */
function ticksOf(span: number): number[] {
  const rough = span / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= rough)!;
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => i * step);
}

function legend(): Node {
  return html(
    'ul',
    { class: 'legend' },
    ...STAGES.map(({ name, text }) =>
      html(
        'li',
        {},
        svg(
          'svg',
          { class: 'swatch', viewBox: '0 0 14 10' },
          svg('rect', { class: `stage ${name}`, width: 14, height: 10 }),
        ),
        text,
      ),
    ),
  );
}

function table({ queues }: Switch, open: boolean): Node {
  const details = html(
    'details',
    {},
    html('summary', {}, 'As a table'),
    html(
      'div',
      { class: 'scroll' },
      html(
        'table',
        {},
        html(
          'thead',
          {},
          html('tr', {}, ...['Queue', 'Ordered', 'Began', 'Ended', 'Drained', 'Rescued'].map(columnHead)),
        ),
        html(
          'tbody',
          {},
          ...queues.map(({ queue, detectedNanos, orderedNanos, beganNanos, endedNanos, drained, rescued }) =>
            html(
              'tr',
              {},
              html('th', { scope: 'row' }, String(queue)),
              ...[orderedNanos, beganNanos, endedNanos].map((nanos) =>
                html('td', {}, `+${microsText(nanos - detectedNanos)}`),
              ),
              ...[drained, rescued].map((packets) => html('td', {}, countText(packets))),
            ),
          ),
        ),
      ),
    ),
  );
  details.open = open;
  return details;
}

const columnHead = (text: string): Node => html('th', { scope: 'col' }, text);
