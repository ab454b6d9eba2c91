/**
 * What happens in a demo: the VF comes and goes under load, gracefully as a well-meaning host does it, and
 * the last but one time by surprise. Each cycle gets an equal share of the time, 60% of it with the VF.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { monotonicNanos } from '../lab/clock.ts';
import type { Window } from '../lab/sequence.ts';
import type { Stage } from './demo-stage.ts';
import { plugVf, switched, unplugVf } from './vf-moves.ts';

/** What the script did, as far as it got. */
export interface Performance {
  /** Cycles that were played to their end. */
  cycles: number;
  /** Stretches in which a vanished VF still was the data path: packets sent then may be lost. */
  readonly windows: Window[];
}

export const SURPRISE = 'surprise';

/** Seconds of one cycle, roughly: bringing a VF up takes some 100 ms, and there should be traffic on it. */
const CYCLE_SECONDS = 1.8;
const MIN_CYCLES = 3;
const MAX_CYCLES = 100;
const VF_SHARE = 0.6;
const MIN_PAUSE_MILLIS = 100;
/** The host takes this long to notice that its VF port has died. */
const NOTICE_MILLIS = 30;

export function cyclesIn(seconds: number): number {
  return Math.min(MAX_CYCLES, Math.max(MIN_CYCLES, Math.round(seconds / CYCLE_SECONDS)));
}

/**
 * Plays until the time is over or `signal` aborts, which ends it after the step under way.
 *
 * @param tell hears of each step before it is taken
 * @throws ERR_TIMEOUT when the port does not follow
 */
export async function perform(
  { port, nic }: Pick<Stage, 'port' | 'nic'>,
  seconds: number,
  signal: AbortSignal,
  tell: (step: string) => void,
): Promise<Performance> {
  const performance: Performance = { cycles: 0, windows: [] };
  const cycles = cyclesIn(seconds);
  const start = monotonicNanos();
  const pauseUntil = async (cycle: number): Promise<void> => {
    const millis = ((cycle / cycles) * seconds * 1e9 - (monotonicNanos() - start)) / 1e6;
    await sleep(Math.max(MIN_PAUSE_MILLIS, millis), undefined, { signal }).catch(() => {});
  };

  for (let cycle = 0; cycle < cycles; cycle++) {
    if (signal.aborted) return performance;
    // A VF may come back under another name: here it always does.
    const name = `vf${cycle}`;
    tell(`the host gives VF ${name}`);
    await plugVf({ port, nic }, name);
    await pauseUntil(cycle + VF_SHARE);
    if (cycle === cycles - 2) {
      tell(`VF ${name} vanishes without a word`);
      const from = monotonicNanos();
      nic.surprise();
      await sleep(NOTICE_MILLIS);
      await nic.hostNotices();
      performance.windows.push({ name: SURPRISE, from, to: monotonicNanos() });
      await switched(port, 'synthetic');
    } else {
      tell(`the host takes VF ${name}`);
      await unplugVf({ port, nic });
    }
    await pauseUntil(cycle + 1);
    performance.cycles++;
  }
  return performance;
}
