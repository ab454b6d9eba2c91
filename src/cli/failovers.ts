/**
 * The failover journal as JSON and as text: one entry per failover instead of one per queue, in microseconds. If the host's
 * events are known, an entry says how long detection took. Pure.
 */
import type { NicEvent } from '../lab/nic.ts';
import type { Failover } from '../memory/journal.ts';

/** One failover of a port. Its queues switch in parallel; times are those of the slowest. */
export interface FailoverEntry {
  readonly from: string;
  readonly to: string;
  readonly reason: string;
  /** The VF vanished before the host had moved the data path. */
  readonly surprise: boolean;
  /**
   * From the host's action until the port knew that the VF goes, or that a new VF can be used (opening its sockets
   * included). null if the host's events are unknown.
   */
  readonly detectMicros: number | null;
  /** From there until the slowest queue transmitted on the other path. */
  readonly switchMicros: number;
  /** Packets that were moved from transmit rings of the old path to the new path. */
  readonly rescued: number;
  /** Packets that were received from rings of the old path during the switch. */
  readonly drained: number;
  readonly queues: number;
  /** When the port knew, CLOCK_MONOTONIC. */
  readonly detectedNanos: number;
}

const VF_ARRIVALS = new Set(['plug', 'up']);
const VF_DEPARTURES = new Set(['down', 'delete', 'surprise', 'carrier-off', 'move-vf']);

/** @param events of the host, in order; empty if they are unknown */
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
    from,
    to,
    reason,
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

/** A failover as a line; with an indent of ten it fits into 80 columns. */
export function failoverLine({ from, to, reason, surprise, detectMicros, ...rest }: FailoverEntry): string {
  const { switchMicros, rescued, drained } = rest;
  const took = `${detectMicros === null ? 'switched in' : 'took'} ${millis((detectMicros ?? 0) + switchMicros)}`;
  const saved = [rescued > 0 ? `rescued ${rescued}` : '', drained > 0 ? `drained ${drained}` : ''];
  const parts = [
    `${from} → ${to}`.padEnd(16),
    cause(reason, surprise).padEnd(20),
    took.padEnd(14),
    saved.filter((part) => part !== '').join(', '),
  ];
  return parts.join(' ').trimEnd();
}

/** Failovers as a table of 79 columns. For entries whose detection time is known. */
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
