/**
 * The failover journal for people: one entry per failover instead of one per queue, in microseconds, with
 * what the host did laid beside it when somebody knows that. Pure.
 */
import type { NicEvent } from '../lab/nic.ts';
import type { Failover } from '../memory/journal.ts';

/** One failover of a port. Its queues switch side by side; the slowest one counts. */
export interface FailoverEntry {
  readonly from: string;
  readonly to: string;
  readonly reason: string;
  /** The device vanished without the host moving the data path first. */
  readonly surprise: boolean;
  /**
   * From what the host did until the coordinator knew: that a VF goes, or, of one that came, that it can be
   * used (opening its sockets included). null when nobody knows what the host did.
   */
  readonly detectMicros: number | null;
  /** From there until the slowest queue transmitted by the other path. */
  readonly switchMicros: number;
  /** Packets taken back from the transmit rings of the path that went, and sent by the other one. */
  readonly rescued: number;
  /** Packets that had arrived by the path that went, and were handled all the same. */
  readonly drained: number;
  readonly queues: number;
  /** When the coordinator knew: CLOCK_MONOTONIC. */
  readonly detectedNanos: number;
}

const VF_ARRIVALS = new Set(['plug', 'up']);
const VF_DEPARTURES = new Set(['down', 'delete', 'surprise', 'carrier-off', 'move-vf']);

/** @param events what the host did, in the order it did it; none when nobody knows */
export function mergeFailovers(
  failovers: readonly Failover[],
  events: readonly NicEvent[] = [],
): FailoverEntry[] {
  const groups = new Map<string, Failover[]>();
  for (const failover of failovers) {
    const key = `${failover.detectedNanos} ${failover.from} ${failover.to}`;
    groups.set(key, [...(groups.get(key) ?? []), failover]);
  }
  return [...groups.values()].map((queues) => entry(queues, events));
}

function entry(queues: readonly Failover[], events: readonly NicEvent[]): FailoverEntry {
  const { from, to, reason, detectedNanos } = queues[0]!;
  const causes = to === 'vf' ? VF_ARRIVALS : VF_DEPARTURES;
  const cause = events.findLast(({ kind, atNanos }) => causes.has(kind) && atNanos <= detectedNanos);
  const sum = (of: (queue: Failover) => number): number => queues.reduce((all, one) => all + of(one), 0);
  return {
    ...{ from, to, reason },
    surprise: cause?.kind === 'surprise' && from === 'vf',
    detectMicros: cause === undefined ? null : inMicros(detectedNanos - cause.atNanos),
    switchMicros: inMicros(Math.max(...queues.map(({ endedNanos }) => endedNanos)) - detectedNanos),
    rescued: sum(({ rescued }) => rescued),
    drained: sum(({ drained }) => drained),
    queues: queues.length,
    detectedNanos,
  };
}

function inMicros(nanos: number): number {
  return Math.round(nanos / 100) / 10;
}

/** For a running commentary; with an indent of ten it fits into 80 columns. */
export function failoverLine({ from, to, reason, surprise, detectMicros, ...rest }: FailoverEntry): string {
  const { switchMicros, rescued, drained } = rest;
  const took = `${detectMicros === null ? 'switched in' : 'took'} ${millis((detectMicros ?? 0) + switchMicros)}`;
  const saved = [rescued > 0 ? `rescued ${rescued}` : '', drained > 0 ? `drained ${drained}` : ''];
  const parts = [
    `${from} → ${to}`.padEnd(15),
    cause(reason, surprise).padEnd(21),
    took.padEnd(14),
    saved.filter((part) => part !== '').join(', '),
  ];
  return parts.join(' ').trimEnd();
}

/** For a ledger: 79 columns. Nobody who reads it has failovers of which no cause is known. */
export function failoverTable(entries: readonly FailoverEntry[]): string[] {
  const row = (what: string, why: string, ...numbers: readonly string[]): string => {
    const [detected, switched, ...counts] = numbers.map((number, i) => number.padStart(i < 2 ? 11 : 8));
    return `${what.padEnd(16)}  ${why.padEnd(23)}${detected}${switched}${counts.join('')}`.trimEnd();
  };
  return [
    row('Failovers', '', 'detected', 'switched', 'rescued', 'drained'),
    ...entries.map(({ from, to, reason, surprise, detectMicros, switchMicros, rescued, drained }) =>
      row(
        `  ${from} → ${to}`,
        cause(reason, surprise),
        ...[detectMicros ?? 0, switchMicros].map(micros),
        ...[rescued, drained].map((count) => (count === 0 ? '' : count.toLocaleString('en'))),
      ),
    ),
  ];
}

function cause(reason: string, surprise: boolean): string {
  return surprise ? `${reason} (surprise)` : reason;
}

function micros(value: number): string {
  return `${value.toLocaleString('en', { maximumFractionDigits: 0 })} µs`;
}

function millis(value: number): string {
  return `${(value / 1000).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 })} ms`;
}
