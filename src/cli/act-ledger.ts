/**
 * What every act of a demo promises, whatever traffic it was played with: the port followed its host over both
 * paths, and each frame of it is in one place. Pure.
 */

import type { FrameLedger } from '../group.ts';
import type { NicEvent } from '../lab/context.ts';
import type { Window } from '../lab/sequence.ts';
import type { Failover } from '../memory/journal.ts';
import type { PortStatistics } from '../statistics.ts';
import { cyclesIn } from './demo-script.ts';
import { type FailoverEntry, mergeFailovers } from './failovers.ts';

/** What is known of an act when its traffic has ended. */
export interface ActEvidence {
  /** How long it was to take. */
  readonly seconds: number;
  readonly cycles: number;
  /** Stretches in which a vanished VF still was the data path. */
  readonly windows: readonly Window[];
  readonly statistics: PortStatistics;
  readonly failovers: readonly Failover[];
  readonly events: readonly NicEvent[];
  readonly frames: readonly FrameLedger[];
  /** What the port said went wrong. */
  readonly errors: readonly string[];
}

/** Failovers from path to path: the port's opening is none. */
export function failoversOf({ failovers, events }: ActEvidence): FailoverEntry[] {
  return mergeFailovers(failovers, events).filter(({ from, to }) => from !== 'none' && to !== 'none');
}

/** Promises that the act did not keep. */
export function actProblems(evidence: ActEvidence): string[] {
  const { cycles, seconds, frames, errors, windows, statistics } = evidence;
  const failovers = failoversOf(evidence);
  const found: string[] = [];
  const expect = (right: boolean, sentence: string): void => void (right || found.push(sentence));
  const planned = cyclesIn(seconds);
  expect(cycles === planned, `only ${cycles} of ${planned} cycles were played`);
  for (const to of ['vf', 'synthetic'] as const) {
    const count = failovers.filter((failover) => failover.to === to).length;
    expect(count >= cycles, `the port moved to the path ${to} ${count} times instead of ${cycles}`);
    const { rxPackets, txPackets } = statistics.paths[to];
    expect(rxPackets > 0 && txPackets > 0, `no packets went by the path ${to}`);
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

/** Every counter of packets that went nowhere, zeros included. */
export function dropCounters({ dropped, paths }: PortStatistics): Record<string, number> {
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

/** To hundredths. */
export function round(value: number): number {
  return Math.round(value * 100) / 100;
}
