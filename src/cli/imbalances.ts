/**
 * Checks that a port's counters add up: every packet that a queue or a path took in is counted once more where it left.
 * Pure. For a port that has no packet under way.
 */
import { DROP_REASONS, type PathStatistics, type PortStatistics } from '../statistics.ts';

/**
 * Returns a sentence for each sum that is wrong. For each queue
 *
 *     received + sent + taken over + accepted + segments + teed
 *         = dropped + handed over + forwarded + delivered + Σ (posted − retried − rescued)
 *
 * because a packet that its path returned (rescued) or dropped (retried) is posted again. And for each path
 *
 *     posted = sent + errors + retried + rescued + unknown
 */
export function imbalances({ queues, paths }: PortStatistics): string[] {
  const found: string[] = [];
  for (const { queue, paths, ...counters } of queues) {
    const all = Object.values(paths);
    const { sent, takenOver, accepted, segments, teed, handedOver, forwarded, delivered } = counters;
    const made = sent + segments + teed;
    const received = sum(all.map(({ rxPackets }) => rxPackets)) + made + takenOver + accepted;
    const dropped = sum(Object.values(DROP_REASONS).map((reason) => counters[reason]));
    const left = dropped + handedOver + forwarded + delivered + sum(all.map(posted));
    if (received !== left) found.push(`queue ${queue} took in ${received} packets and accounts for ${left}`);
  }
  for (const [name, { txPosted, txPackets, txErrors, txRetried, txRescued, txUnknown }] of Object.entries(
    paths,
  )) {
    const ended = txPackets + txErrors + txRetried + txRescued + txUnknown;
    if (txPosted !== ended) {
      found.push(`the path ${name} was given ${txPosted} packets and accounts for ${ended}`);
    }
  }
  return found;
}

const posted = ({ txPosted, txRetried, txRescued }: PathStatistics): number =>
  txPosted - txRetried - txRescued;

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
