/**
 * The ledger of a demo's second act: what became of a TCP connection while the VF under it came and went.
 * Pure; the fields are those of `tcp` in `twinpath demo --json`.
 */

import type { FrameLedger } from '../group.ts';
import type { DownloadReport } from '../lab/download-report.ts';
import { type ActEvidence, actProblems, dropCounters, failoversOf, round, total } from './act-ledger.ts';
import type { FailoverEntry } from './failovers.ts';
import { imbalances } from './imbalances.ts';
import type { RateSample } from './rate-chart.ts';

export interface DownloadEvidence extends ActEvidence {
  readonly download: DownloadReport;
  readonly samples: readonly RateSample[];
}

export interface DownloadLedger {
  readonly seconds: number;
  /** Payload that arrived. */
  readonly bytes: number;
  readonly gbitPerSecond: number;
  /** The longest time between two arrivals of data at the receiver. */
  readonly longestStallMillis: number;
  /** Segments that the sender sent again. */
  readonly retransmits: number;
  /** The connection lived to its end and every byte was right. */
  readonly survived: boolean;
  /** Bytes of frames, in and out. */
  readonly paths: Readonly<
    Record<'vf' | 'synthetic', { readonly rxBytes: number; readonly txBytes: number }>
  >;
  readonly failovers: readonly FailoverEntry[];
  readonly drops: Readonly<Record<string, number>>;
  readonly frames: FrameLedger;
  /** The rate as it was drawn. */
  readonly samples: readonly RateSample[];
}

export function downloadLedger(evidence: DownloadEvidence): DownloadLedger {
  const { download, statistics, frames, samples } = evidence;
  const { bytes, seconds, gbitPerSecond, longestStallMillis, retransmits, survived } = download;
  const share = (path: 'vf' | 'synthetic'): { rxBytes: number; txBytes: number } => {
    const { rxBytes, txBytes } = statistics.paths[path];
    return { rxBytes, txBytes };
  };
  return {
    ...{ seconds: round(seconds), bytes, gbitPerSecond: round(gbitPerSecond) },
    ...{ longestStallMillis: round(longestStallMillis), retransmits, survived },
    paths: { vf: share('vf'), synthetic: share('synthetic') },
    failovers: failoversOf(evidence),
    drops: dropCounters(statistics),
    ...{ frames: total(frames), samples },
  };
}

/** Promises that were not kept, as sentences that name the act. */
export function downloadProblems(evidence: DownloadEvidence): string[] {
  const { download, statistics } = evidence;
  const found: string[] = [];
  if (!download.survived) found.push(`the connection did not survive: ${download.failure}`);
  const through = statistics.paths.vf.rxBytes + statistics.paths.synthetic.rxBytes;
  if (through < download.bytes)
    found.push(`of ${download.bytes} bytes only ${through} came through the port`);
  return [...found, ...actProblems(evidence), ...imbalances(statistics)].map((problem) => `TCP: ${problem}`);
}
