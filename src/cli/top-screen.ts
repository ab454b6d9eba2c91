/** The screen of `twinpath top`: lines that fit a terminal of 80 × 24 and use a larger one. Pure. */
import type { PortRow } from '../control/protocol.ts';
import { type PortRates, short } from '../control/rates.ts';
import { type FailoverEntry, failoverLine } from './failovers.ts';

/** What the screen shows. */
export interface TopView {
  readonly pid: number;
  readonly row: PortRow;
  /** Seconds between samples. */
  readonly every: number;
  readonly rates: PortRates;
  /** The last ones, oldest first, and how long ago each was, in seconds. */
  readonly failovers: readonly { readonly entry: FailoverEntry; readonly ago: number }[];
  /** Samples that the terminal was too slow for. */
  readonly missed: number;
}

const COLUMNS = ['owner', 'packets/s', 'burst', 'ns/packet', 'idle', 'sleeps/s', 'kicks/s', 'handed/s'];
const WIDTHS = [9, 10, 6, 9, 6, 9, 8, 9];
/** All lines but those of queues and failovers, the line about more queues among them, and one that a panel needs itself. */
const FIXED = 14;
const MIN_FAILOVERS = 3;

/** @param rows of the terminal; at least 24 are used well */
export function topScreen(view: TopView, rows: number): string[] {
  const { pid, row, every, rates, failovers, missed } = view;
  const room = Math.max(2, rows - FIXED);
  const shownFailovers = Math.min(failovers.length, Math.max(MIN_FAILOVERS, room - rates.queues.length));
  const shownQueues = Math.min(rates.queues.length, room - Math.max(1, shownFailovers));
  const more = rates.queues.length - shownQueues;
  return [
    `${row.device}  process ${pid}, ${row.mode}, ${linkText(row)}`,
    '',
    `${''.padEnd(9)}${['pkt/s in', 'bit/s in', 'pkt/s out', 'bit/s out'].map((head) => head.padStart(13)).join('')}`,
    ...(['vf', 'synthetic', 'host'] as const).map((path) => {
      const { rxPackets, rxBits, txPackets, txBits } = rates.paths[path];
      const cells = [rxPackets, rxBits, txPackets, txBits].map((value) => short(value).padStart(13));
      return `${path.padEnd(9)}${cells.join('')} ${row.paths[path]?.device ?? '-'}`;
    }),
    '',
    `queue ${COLUMNS.map((head, i) => head.padStart(WIDTHS[i]!)).join(' ')}`,
    ...rates.queues.slice(0, shownQueues).map((queue) => {
      const { owner, packets, burst, nanosPerPacket, idle, sleeps, kicks, handedOver } = queue;
      const cells = [
        owner,
        short(packets),
        burst.toFixed(1),
        packets === 0 ? '-' : short(nanosPerPacket),
        `${Math.round(100 * idle)} %`,
        short(sleeps),
        short(kicks),
        short(handedOver),
      ];
      return `${String(queue.queue).padStart(5)} ${cells.map((cell, i) => cell.padStart(WIDTHS[i]!)).join(' ')}`;
    }),
    ...(more > 0 ? [`      and ${more} more queues: a higher window shows them`] : []),
    '',
    `drops/s: ${dropText(rates)}`,
    failovers.length === 0 ? 'no failovers yet' : 'failovers',
    ...failovers
      .slice(failovers.length - shownFailovers)
      .map(({ entry, ago }) => `${agoText(ago).padStart(8)}  ${failoverLine(entry)}`),
    `every ${every} s${missed === 0 ? '' : `, ${missed} samples missed`}; Ctrl-C ends`,
  ];
}

function linkText({ link }: PortRow): string {
  const speed = link.speedMbps === undefined || link.speedMbps === null ? '' : ` ${link.speedMbps} Mbit/s`;
  return `link ${link.up ? 'up' : 'down'}${speed}`;
}

function dropText({ drops, handlerErrors }: PortRates): string {
  const parts = Object.entries(drops)
    .sort(([, a], [, b]) => b - a)
    .map(([reason, packets]) => `${reason} ${short(packets)}`);
  if (handlerErrors > 0) parts.push(`exceptions of the handler ${short(handlerErrors)}`);
  return parts.join(', ') || 'none';
}

function agoText(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
