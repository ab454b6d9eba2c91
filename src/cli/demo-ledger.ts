/**
 * The ledger at the end of a demo: what was sent and what became of it, and whether that is what Twinpath
 * promises. Pure; the fields are those of `twinpath demo --json`.
 */
import type { NicEvent } from '../lab/plant.ts';
import { attribute, type Tally, UNEXPLAINED, type Window } from '../lab/sequence.ts';
import type { TrafficReport } from '../lab/traffic.ts';
import type { Failover } from '../memory/journal.ts';
import type { FrameLedger } from '../port.ts';
import type { PathStatistics, PortStatistics } from '../statistics.ts';
import { cyclesIn } from './demo-script.ts';
import { type FailoverEntry, mergeFailovers } from './failovers.ts';

/** Everything that is known when the traffic has ended. */
export interface Evidence {
  readonly network: 'kernel' | 'memory';
  readonly privileged: boolean;
  readonly seconds: number;
  readonly cycles: number;
  readonly windows: readonly Window[];
  readonly traffic: TrafficReport;
  readonly statistics: PortStatistics;
  readonly failovers: readonly Failover[];
  readonly events: readonly NicEvent[];
  readonly frames: readonly FrameLedger[];
  /** What the port said went wrong. */
  readonly errors: readonly string[];
}

export interface DemoLedger {
  /** Whether everything below is as it should be; `problems` says what is not. */
  readonly ok: boolean;
  readonly problems: readonly string[];
  readonly privileged: boolean;
  readonly network: 'kernel' | 'memory';
  readonly seconds: number;
  /** UDP, numbered by flow. */
  readonly packets: Tally;
  readonly icmp: Tally;
  /** Lost packets by what happened when they were sent. */
  readonly lostBy: Readonly<Record<string, number>>;
  readonly icmpLostBy: Readonly<Record<string, number>>;
  /** UDP and ICMP: lost on the way to the port, by the port (`drops`), on the way back. */
  readonly lostWhere: { readonly beforePort: number; readonly inPort: number; readonly afterPort: number };
  readonly failovers: readonly FailoverEntry[];
  readonly paths: Readonly<Record<'vf' | 'synthetic', { readonly rx: number; readonly tx: number }>>;
  /** Every counter of packets that went nowhere, zeros included. */
  readonly drops: Readonly<Record<string, number>>;
  readonly frames: FrameLedger;
  readonly latencyMicros: TrafficReport['latency'];
  readonly longestGapMicros: number;
}

/** A packet is not taken to be under way for longer than this, however slow one of them was. */
const UNDER_WAY_NANOS = 50e6;

export function drawUp(evidence: Evidence): DemoLedger {
  const { traffic, statistics, network, privileged, seconds } = evidence;
  const failovers = mergeFailovers(evidence.failovers, evidence.events).filter(
    ({ from, to }) => from !== 'none' && to !== 'none',
  );
  const windows = widened(evidence.windows, traffic);
  const sent = traffic.packets.sent + traffic.icmp.sent;
  const dropped = Object.values(statistics.dropped).reduce((a, b) => a + b, 0);
  const ledger = {
    ...{ privileged, network, seconds: round(seconds) },
    ...{ packets: traffic.packets, icmp: traffic.icmp },
    lostBy: attribute(traffic.lostAt, windows),
    icmpLostBy: attribute(traffic.icmpLostAt, windows),
    lostWhere: {
      beforePort: sent - statistics.received,
      inPort: dropped,
      afterPort: statistics.received - dropped - traffic.packets.received - traffic.icmp.received,
    },
    failovers,
    paths: { vf: share(statistics.paths.vf), synthetic: share(statistics.paths.synthetic) },
    drops: dropCounters(statistics),
    frames: total(evidence.frames),
    latencyMicros: traffic.latency,
    longestGapMicros: Math.round(traffic.gaps[0]?.micros ?? 0),
  };
  const problems = problemsOf(ledger, evidence);
  return { ok: problems.length === 0, problems, ...ledger };
}

/**
 * A packet that the vanished device took with it may have been sent before: no longer before than the
 * slowest packet of the run was under way.
 */
function widened(windows: readonly Window[], { latency }: TrafficReport): Window[] {
  const underWay = Math.min(latency.max * 1000, UNDER_WAY_NANOS);
  return windows.map(({ name, from, to }) => ({ name, from: from - underWay, to }));
}

function problemsOf(
  ledger: Omit<DemoLedger, 'ok' | 'problems'>,
  { cycles, seconds, frames, errors, windows }: Evidence,
): string[] {
  const { packets, icmp, lostBy, icmpLostBy, failovers, paths } = ledger;
  const found: string[] = [];
  const expect = (right: boolean, sentence: string): void => void (right || found.push(sentence));
  for (const [what, tally, lost] of [
    ['UDP packets', packets, lostBy[UNEXPLAINED]!],
    ['ICMP packets', icmp, icmpLostBy[UNEXPLAINED]!],
  ] as const) {
    expect(tally.received > 0, `no ${what} came back`);
    expect(lost === 0, `${lost} ${what} were lost although the VF had not vanished by surprise`);
    expect(tally.duplicated === 0, `${tally.duplicated} ${what} came twice`);
    expect(tally.reordered === 0, `${tally.reordered} ${what} overtook others of their flow`);
    expect(tally.unknown === 0, `${tally.unknown} ${what} came back that were never sent, or damaged`);
  }
  const planned = cyclesIn(seconds);
  expect(cycles === planned, `only ${cycles} of ${planned} cycles were played`);
  for (const to of ['vf', 'synthetic'] as const) {
    const count = failovers.filter((failover) => failover.to === to).length;
    expect(count >= cycles, `the port moved to the path ${to} ${count} times instead of ${cycles}`);
    expect(paths[to].rx > 0 && paths[to].tx > 0, `no packets went by the path ${to}`);
  }
  const surprises = failovers.filter(({ surprise }) => surprise).length;
  expect(surprises === windows.length, `${surprises} of ${windows.length} surprises made a failover`);
  frames.forEach(({ total, accounted, duplicates }, queue) => {
    expect(accounted === total, `queue ${queue} accounts for ${accounted} of its ${total} frames`);
    expect(duplicates === 0, `queue ${queue} has ${duplicates} frames in two places`);
  });
  expect(frames.length > 0, 'the workers did not say where their frames are');
  return [...found, ...errors];
}

function share({ rxPackets, txPackets }: PathStatistics): { rx: number; tx: number } {
  return { rx: rxPackets, tx: txPackets };
}

function dropCounters({ dropped, paths }: PortStatistics): Record<string, number> {
  const counters: Record<string, number> = { ...dropped };
  for (const name of ['vf', 'synthetic'] as const) {
    const { txErrors, txUnknown, rxErrors, kernel } = paths[name];
    for (const [counter, count] of Object.entries({ txErrors, txUnknown, rxErrors, ...kernel })) {
      counters[`${name}.${counter}`] = count;
    }
  }
  return counters;
}

/** The frames of all queues. */
export function total(frames: readonly FrameLedger[]): FrameLedger {
  const sum: FrameLedger = {
    ...{ total: 0, accounted: 0, free: 0, fill: 0, rx: 0, tx: 0, completing: 0, inHand: 0 },
    ...{ lent: 0, borrowed: 0, duplicates: 0 },
  };
  for (const one of frames) {
    for (const place of Object.keys(sum) as (keyof FrameLedger)[]) sum[place] += one[place];
  }
  return sum;
}

function round(seconds: number): number {
  return Math.round(seconds * 100) / 100;
}
