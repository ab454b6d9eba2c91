/**
 * Whether the counters of a port add up: each packet that came is in one of them, and so is what became of it.
 * Pure. Only once nothing is under way.
 */
import { DROP_REASONS, type PathStatistics, type PortStatistics } from '../statistics.ts';

/**
 * What does not add up, for people. For each queue
 *
 *     received + sent + taken over + accepted + segments
 *         = dropped + handed over + forwarded + delivered + Σ (posted − retried − rescued)
 *
 * since a packet that its path gave back (rescued) or dropped and got again (retried) is posted anew; and for
 * each path
 *
 *     posted = sent + errors + retried + rescued + unknown
 */
export function imbalances({ queues, paths }: PortStatistics): string[] {
  const found: string[] = [];
  for (const { queue, paths, ...counters } of queues) {
    const all = Object.values(paths);
    const { sent, takenOver, accepted, segments, handedOver, forwarded, delivered } = counters;
    const came = sum(all.map(({ rxPackets }) => rxPackets)) + sent + takenOver + accepted + segments;
    const dropped = sum(Object.values(DROP_REASONS).map((reason) => counters[reason]));
    const went = dropped + handedOver + forwarded + delivered + sum(all.map(given));
    if (came !== went) found.push(`queue ${queue} took in ${came} packets and knows what became of ${went}`);
  }
  for (const [name, { txPosted, txPackets, txErrors, txRetried, txRescued, txUnknown }] of Object.entries(
    paths,
  )) {
    const ended = txPackets + txErrors + txRetried + txRescued + txUnknown;
    if (txPosted !== ended) {
      found.push(`the path ${name} was given ${txPosted} packets and knows what became of ${ended}`);
    }
  }
  return found;
}

const given = ({ txPosted, txRetried, txRescued }: PathStatistics): number =>
  txPosted - txRetried - txRescued;

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
