/**
 * The ledger at the end of a demo: what became of every packet, and which promises of Twinpath were not kept. Pure.
 *
 * {@link DemoLedger} is what `twinpath demo --json` prints.
 */
import type { FrameLedger } from '../../group.ts';
import type { NicEvent } from '../../lab/nic.ts';
import type { DownloadReport, TrafficReport } from '../../lab/reports.ts';
import { attribute, type Tally, UNEXPLAINED, type Window } from '../../lab/reports.ts';
import { LEDGER_FIELDS } from '../../memory/blocks.ts';
import type { Failover } from '../../memory/journal.ts';
import type { PathStatistics, PortStatistics } from '../../statistics.ts';
import { type FailoverEntry, mergeFailovers } from '../failovers.ts';
import { imbalances } from '../imbalances.ts';
import { cyclesIn } from './schedule.ts';

/** What is known of a scenario when its traffic has ended. */
export interface ScenarioEvidence {
  /** How long it was to take. */
  readonly seconds: number;
  readonly cycles: number;
  /** Times in which the data path still pointed at a vanished VF. */
  readonly windows: readonly Window[];
  readonly statistics: PortStatistics;
  readonly failovers: readonly Failover[];
  readonly events: readonly NicEvent[];
  readonly frames: readonly FrameLedger[];
  /** Errors and dead workers that the port reported. */
  readonly errors: readonly string[];
}

export interface DownloadEvidence extends ScenarioEvidence {
  readonly download: DownloadReport;
  readonly samples: readonly RateSample[];
}

export interface Evidence extends ScenarioEvidence {
  readonly network: 'kernel' | 'memory';
  readonly traffic: TrafficReport;
  /** Absent if the second scenario was left out. */
  readonly download?: DownloadEvidence | undefined;
}

/** What arrived in a tenth of a second. */
export interface RateSample {
  readonly millis: number;
  readonly bytes: number;
  /** The path that most of it took; none if nothing arrived. */
  readonly path: 'vf' | 'synthetic' | 'none';
}

/** What the ledgers of both scenarios have. */
interface PortLedger {
  readonly failovers: readonly FailoverEntry[];
  /** Every counter of dropped packets, zeros included. */
  readonly drops: Readonly<Record<string, number>>;
  readonly frames: FrameLedger;
}

type ByPath<T> = Readonly<Record<'vf' | 'synthetic', T>>;

export interface DemoLedger extends PortLedger {
  /** Whether every promise was kept; if not, `problems` says what happened. */
  readonly ok: boolean;
  readonly problems: readonly string[];
  readonly privileged: boolean;
  readonly network: 'kernel' | 'memory';
  readonly seconds: number;
  /** UDP. */
  readonly packets: Tally;
  readonly icmp: Tally;
  /** Lost packets by what happened when they were sent. */
  readonly lostBy: Readonly<Record<string, number>>;
  readonly icmpLostBy: Readonly<Record<string, number>>;
  /** UDP and ICMP: lost on the way to the port, by the port (`drops`), on the way back. */
  readonly lostWhere: { readonly beforePort: number; readonly inPort: number; readonly afterPort: number };
  readonly paths: ByPath<{ readonly rx: number; readonly tx: number }>;
  readonly latencyMicros: TrafficReport['latency'];
  readonly longestGapMicros: number;
  /** The second scenario, on another port. */
  readonly tcp?: DownloadLedger;
}

export interface DownloadLedger extends PortLedger {
  readonly seconds: number;
  /** Payload that arrived. */
  readonly bytes: number;
  readonly gbitPerSecond: number;
  /** The longest time between two arrivals of data at the receiver. */
  readonly longestStallMillis: number;
  readonly retransmits: number;
  /** The connection lasted until the sender ended it, and every byte was right. */
  readonly survived: boolean;
  /** Bytes of frames. */
  readonly paths: ByPath<{ readonly rxBytes: number; readonly txBytes: number }>;
  readonly samples: readonly RateSample[];
}

/** The most by which a window of losses is extended to earlier send times. */
const MAX_EXTENSION_NANOS = 50e6;

export function demoLedger(evidence: Evidence): DemoLedger {
  const { traffic, statistics, network, seconds, download } = evidence;
  const { packets, icmp, latency } = traffic;
  const { vf, synthetic } = statistics.paths;
  const windows = extended(evidence.windows, traffic);
  const dropped = Object.values(statistics.dropped).reduce((a, b) => a + b, 0);
  const share = ({ rxPackets, txPackets }: PathStatistics) => ({ rx: rxPackets, tx: txPackets });
  const { failovers, drops, frames } = portLedger(evidence);
  const lostBy = attribute(traffic.lostAt, windows);
  const icmpLostBy = attribute(traffic.icmpLostAt, windows);
  const problems = [
    ...tallyProblems('UDP packets', packets, lostBy),
    ...tallyProblems('ICMP packets', icmp, icmpLostBy),
    ...portProblems(evidence),
    ...(download ? downloadProblems(download) : []),
  ];
  return {
    ok: problems.length === 0,
    problems,
    privileged: network === 'kernel',
    network,
    seconds: round(seconds),
    packets,
    icmp,
    lostBy,
    icmpLostBy,
    lostWhere: {
      beforePort: packets.sent + icmp.sent - statistics.received,
      inPort: dropped,
      afterPort: statistics.received - dropped - packets.received - icmp.received,
    },
    failovers,
    paths: { vf: share(vf), synthetic: share(synthetic) },
    drops,
    frames,
    latencyMicros: latency,
    longestGapMicros: Math.round(traffic.gaps[0]?.micros ?? 0),
    ...(download && { tcp: downloadLedger(download) }),
  };
}

function downloadLedger(evidence: DownloadEvidence): DownloadLedger {
  const { download, statistics, samples } = evidence;
  const { bytes, seconds, gbitPerSecond, longestStallMillis, retransmits, survived } = download;
  const { vf, synthetic } = statistics.paths;
  const share = ({ rxBytes, txBytes }: PathStatistics) => ({ rxBytes, txBytes });
  return {
    seconds: round(seconds),
    bytes,
    gbitPerSecond: round(gbitPerSecond),
    longestStallMillis: round(longestStallMillis),
    retransmits,
    survived,
    paths: { vf: share(vf), synthetic: share(synthetic) },
    ...portLedger(evidence),
    samples,
  };
}

function portLedger(evidence: ScenarioEvidence): PortLedger {
  const { statistics, frames } = evidence;
  const drops: Record<string, number> = { ...statistics.dropped };
  for (const path of ['vf', 'synthetic'] as const) {
    const { txErrors, txUnknown, rxErrors, kernel } = statistics.paths[path];
    for (const [counter, count] of Object.entries({ txErrors, txUnknown, rxErrors, ...kernel })) {
      drops[`${path}.${counter}`] = count;
    }
  }
  const sums = LEDGER_FIELDS.map((field) => [field, frames.reduce((sum, queue) => sum + queue[field], 0)]);
  return { failovers: failoversOf(evidence), drops, frames: Object.fromEntries(sums) };
}

/** Failovers from one path to the other, without the port's opening and closing. */
function failoversOf({ failovers, events }: ScenarioEvidence): FailoverEntry[] {
  return mergeFailovers(failovers, events).filter(({ from, to }) => from !== 'none' && to !== 'none');
}

/**
 * A packet that a vanished device took with it may have been sent before the device vanished. It was sent at most the
 * longest round trip of the run earlier.
 */
function extended(windows: readonly Window[], { latency }: TrafficReport): Window[] {
  const earlier = Math.min(latency.max * 1000, MAX_EXTENSION_NANOS);
  return windows.map(({ name, from, to }) => ({ name, from: from - earlier, to }));
}

type Check = readonly [kept: boolean, problem: string];

const problemsIn = (checks: readonly Check[]): string[] =>
  checks.filter(([kept]) => !kept).map(([, problem]) => problem);

function tallyProblems(what: string, tally: Tally, lostBy: Readonly<Record<string, number>>): string[] {
  const { received, duplicated, reordered, unknown } = tally;
  const lost = lostBy[UNEXPLAINED]!;
  return problemsIn([
    [received > 0, `no ${what} came back`],
    [lost === 0, `${lost} ${what} were lost although the VF had not vanished by surprise`],
    [duplicated === 0, `${duplicated} ${what} were duplicated`],
    [reordered === 0, `${reordered} ${what} overtook others of their flow`],
    [unknown === 0, `${unknown} ${what} came back that were never sent, or were damaged`],
  ]);
}

/** Promises of every scenario: the port followed its host over both paths, and each frame of it is in one place. */
function portProblems(evidence: ScenarioEvidence): string[] {
  const { cycles, seconds, frames, errors, windows, statistics } = evidence;
  const failovers = failoversOf(evidence);
  const planned = cyclesIn(seconds);
  const surprises = failovers.filter(({ surprise }) => surprise).length;
  const byPath = (['vf', 'synthetic'] as const).flatMap((path): Check[] => {
    const count = failovers.filter(({ to }) => to === path).length;
    const { rxPackets, txPackets } = statistics.paths[path];
    return [
      [count >= cycles, `the port moved to the path ${path} ${count} times instead of ${cycles}`],
      [rxPackets > 0 && txPackets > 0, `no packets took the path ${path}`],
    ];
  });
  const byQueue = frames.flatMap(({ total, accounted, duplicates }, queue): Check[] => [
    [accounted === total, `queue ${queue} accounts for ${accounted} of its ${total} frames`],
    [duplicates === 0, `queue ${queue} has ${duplicates} frames in two places`],
  ]);
  const found = problemsIn([
    [cycles === planned, `only ${cycles} of ${planned} cycles were completed`],
    ...byPath,
    [surprises === windows.length, `${surprises} of ${windows.length} surprises made a failover`],
    ...byQueue,
    [frames.length > 0, 'the workers did not say where their frames are'],
  ]);
  return [...found, ...errors];
}

function downloadProblems(evidence: DownloadEvidence): string[] {
  const { download, statistics } = evidence;
  const { vf, synthetic } = statistics.paths;
  const through = vf.rxBytes + synthetic.rxBytes;
  const found = problemsIn([
    [download.survived, `the connection did not survive: ${download.failure}`],
    [through >= download.bytes, `of ${download.bytes} bytes only ${through} came through the port`],
  ]);
  return [...found, ...portProblems(evidence), ...imbalances(statistics)].map((problem) => `TCP: ${problem}`);
}

/** To hundredths. */
function round(value: number): number {
  return Math.round(value * 100) / 100;
}
