/**
 * The ledger at the end of a demo: what was sent and what became of it, and whether that is what Twinpath
 * promises. Pure; the fields are those of `twinpath demo --json`.
 */

import type { FrameLedger } from '../group.ts';
import { attribute, type Tally, UNEXPLAINED, type Window } from '../lab/sequence.ts';
import type { TrafficReport } from '../lab/traffic.ts';
import type { PathStatistics } from '../statistics.ts';
import { type ActEvidence, actProblems, dropCounters, failoversOf, round, total } from './act-ledger.ts';
import {
  type DownloadEvidence,
  type DownloadLedger,
  downloadLedger,
  downloadProblems,
} from './download-ledger.ts';
import type { FailoverEntry } from './failovers.ts';

/** Everything that is known when the traffic has ended. */
export interface Evidence extends ActEvidence {
  readonly network: 'kernel' | 'memory';
  readonly privileged: boolean;
  readonly traffic: TrafficReport;
  /** Absent when the second act was left out. */
  readonly download?: DownloadEvidence | undefined;
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
  /** The second act, a port and a ledger of its own. */
  readonly tcp?: DownloadLedger;
}

type Counts = Pick<DemoLedger, 'packets' | 'icmp' | 'lostBy' | 'icmpLostBy'>;

/** A packet is not taken to be under way for longer than this, however slow one of them was. */
const UNDER_WAY_NANOS = 50e6;

export function drawUp(evidence: Evidence): DemoLedger {
  const { traffic, statistics, network, privileged, seconds, download } = evidence;
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
    failovers: failoversOf(evidence),
    paths: { vf: share(statistics.paths.vf), synthetic: share(statistics.paths.synthetic) },
    drops: dropCounters(statistics),
    frames: total(evidence.frames),
    latencyMicros: traffic.latency,
    longestGapMicros: Math.round(traffic.gaps[0]?.micros ?? 0),
  };
  const problems = [
    ...trafficProblems(ledger),
    ...actProblems(evidence),
    ...(download ? downloadProblems(download) : []),
  ];
  const tcp = download && downloadLedger(download);
  return { ok: problems.length === 0, problems, ...ledger, ...(tcp && { tcp }) };
}

/**
 * A packet that the vanished device took with it may have been sent before: no longer before than the
 * slowest packet of the run was under way.
 */
function widened(windows: readonly Window[], { latency }: TrafficReport): Window[] {
  const underWay = Math.min(latency.max * 1000, UNDER_WAY_NANOS);
  return windows.map(({ name, from, to }) => ({ name, from: from - underWay, to }));
}

function trafficProblems({ packets, icmp, lostBy, icmpLostBy }: Counts): string[] {
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
  return found;
}

function share({ rxPackets, txPackets }: PathStatistics): { rx: number; tx: number } {
  return { rx: rxPackets, tx: txPackets };
}
