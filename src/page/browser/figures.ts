/** The figures of now: a card for each path, drops and failovers, and the tables of queues and of drops. */
import type { PathKey, PortSample, PortState } from '../messages.ts';
import { PATHS } from './rate-chart.ts';
import type { Store } from './store.ts';
import { byId, html, setText } from './svg.ts';
import { durationOf, isFailover, type Switch } from './switches.ts';
import { agoText, countText, microsText, rateText, shortText, speedText } from './units.ts';

export function showIdentity(port: PortState, store: Store): void {
  const { twinpath, pid } = store.hello!;
  const speed = port.speedMbps === null ? '' : `, ${speedText(port.speedMbps)}`;
  const values = {
    device: port.device,
    mac: port.mac,
    link: `${port.linkUp ? 'up' : 'down'}${speed}`,
    mode: `${port.mode}${port.mtu === null ? '' : `, MTU ${port.mtu}`}`,
    process: `${pid}, Twinpath ${twinpath}`,
  };
  for (const [name, value] of Object.entries(values)) setText(byId(`id-${name}`), value);
  document.title = `${port.device}: Twinpath`;
}

export function showProblems({ problems }: PortState): void {
  const list = byId('problems');
  list.hidden = problems.length === 0;
  const shown = [...list.children].map(({ textContent }) => textContent);
  if (shown.join('\n') !== problems.join('\n'))
    list.replaceChildren(...problems.map((problem) => html('li', {}, problem)));
}

export function showCards(
  port: PortState,
  sample: PortSample | undefined,
  switches: readonly Switch[],
  store: Store,
): void {
  for (const path of PATHS) showPath(path, port, sample);
  const total = port.drops.reduce((all, drop) => all + drop.total, 0);
  setText(byId('dropped-rate'), rateText(sample?.dropped ?? 0, 'pps'));
  setText(byId('dropped-total'), total === 0 ? 'none so far' : `${countText(total)} in all`);
  const failovers = switches.filter(isFailover);
  const last = failovers.at(-1);
  setText(byId('failover-count'), countText(failovers.length));
  setText(
    byId('failover-last'),
    last === undefined
      ? 'none yet'
      : `last ${agoText((store.nowNanos - last.endedNanos) / 1e9)}, in ${microsText(durationOf(last))}`,
  );
}

function showPath(path: PathKey, { paths, queues }: PortState, sample: PortSample | undefined): void {
  const open = paths[path];
  const owned = queues.filter(({ owner }) => owner === path).length;
  const state =
    open === undefined
      ? 'away'
      : owned === 0
        ? 'open'
        : owned === queues.length
          ? 'transmits'
          : `${owned} of ${queues.length} queues`;
  const [rxPackets, rxBits, txPackets, txBits] = sample?.[path] ?? [0, 0, 0, 0];
  const card = byId(`card-${path}`);
  card.classList.toggle('away', open === undefined);
  card.classList.toggle('owns', owned > 0);
  const values = {
    state,
    device: open === undefined ? 'no device' : `${open.device}, ${open.mode}`,
    'in-packets': rateText(rxPackets, 'pps'),
    'in-bits': rateText(rxBits, 'bit/s'),
    'out-packets': rateText(txPackets, 'pps'),
    'out-bits': rateText(txBits, 'bit/s'),
  };
  for (const [name, value] of Object.entries(values)) setText(card.querySelector(`.${name}`)!, value);
  card.querySelector<HTMLElement>('.device')!.title = values.device; // it may be longer than its line
}

export function showQueues({ queues }: PortState): void {
  fill(
    byId('queues'),
    queues.map((queue) => ({
      key: String(queue.queue),
      mark: `path ${queue.owner}`,
      cells: [
        queue.owner === 'vf' ? 'VF' : queue.owner,
        `${shortText(queue.packets)}`,
        queue.burst.toFixed(1),
        queue.packets === 0 ? '-' : shortText(queue.nanosPerPacket),
        `${Math.round(100 * queue.idle)} %`,
        shortText(queue.sleeps),
        shortText(queue.kicks),
        shortText(queue.handedOver),
      ],
    })),
  );
}

export function showDrops({ drops, handlerErrors }: PortState): void {
  const rows = drops.toSorted((a, b) => b.total - a.total);
  byId('no-drops').hidden = rows.length > 0 || handlerErrors.total > 0;
  byId('drops-table').hidden = rows.length === 0 && handlerErrors.total === 0;
  fill(byId('drops'), [
    ...rows.map(({ reason, rate, total }) => ({
      key: reason,
      cells: [rateText(rate, 'pps'), countText(total)],
    })),
    ...(handlerErrors.total > 0
      ? [
          {
            key: 'exceptions of the handler',
            cells: [`${shortText(handlerErrors.rate)} /s`, countText(handlerErrors.total)],
          },
        ]
      : []),
  ]);
}

interface Row {
  /** Its heading. */
  readonly key: string;
  readonly cells: readonly string[];
  /** Class of the first cell's text. */
  readonly mark?: string;
}

/** Keeps the rows that are there: what a reader has selected stays selected. */
function fill(body: HTMLElement, rows: readonly Row[]): void {
  while (body.children.length > rows.length) body.lastElementChild!.remove();
  rows.forEach(({ key, cells, mark }, i) => {
    const row = body.children[i] ?? body.appendChild(html('tr', {}, html('th', { scope: 'row' })));
    setText(row.children[0]!, key);
    cells.forEach((text, column) => {
      const cell = row.children[column + 1] ?? row.appendChild(html('td', {}, html('span')));
      const span = cell.children[0]!;
      setText(span, text);
      if (column === 0 && mark !== undefined) span.className = mark;
    });
  });
}
