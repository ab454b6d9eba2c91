/**
 * What the host does in a scenario: it gives the guest a VF and takes it away, in cycles of equal length, while traffic
 * runs. In the last cycle but one the VF vanishes by surprise; in all others the host moves the data path first.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Window } from '../../lab/reports.ts';
import { nowNanos } from '../../memory/shared.ts';
import { type PortOnNic, plugVf, switched, unplugVf } from '../vf-moves.ts';

export interface ScheduleResult {
  /** Complete cycles. */
  cycles: number;
  /** Times in which the data path still pointed at a vanished VF: packets sent then may be lost. */
  readonly windows: Window[];
}

export const SURPRISE = 'surprise';

/** About 100 ms of it brings the VF up; the rest leaves time for traffic through it. */
const CYCLE_SECONDS = 1.8;
const MIN_CYCLES = 3;
const MAX_CYCLES = 100;
/** The part of a cycle in which the guest has the VF. */
const VF_SHARE = 0.6;
const MIN_PAUSE_MILLIS = 100;
/** How long the host takes to notice that a VF has vanished. */
const NOTICE_MILLIS = 30;

export function cyclesIn(seconds: number): number {
  return Math.min(MAX_CYCLES, Math.max(MIN_CYCLES, Math.round(seconds / CYCLE_SECONDS)));
}

/**
 * Runs until the time is over, or until the current step ends after `signal` has aborted.
 *
 * @param onStep called before each step
 * @throws ERR_TIMEOUT if the port does not switch
 */
export async function runSchedule(
  pair: PortOnNic,
  seconds: number,
  signal: AbortSignal,
  onStep: (step: string) => void,
): Promise<ScheduleResult> {
  const { port, nic } = pair;
  const result: ScheduleResult = { cycles: 0, windows: [] };
  const cycles = cyclesIn(seconds);
  const start = nowNanos();
  const pauseUntil = async (cycle: number): Promise<void> => {
    const millis = ((cycle / cycles) * seconds * 1e9 - (nowNanos() - start)) / 1e6;
    await sleep(Math.max(MIN_PAUSE_MILLIS, millis), undefined, { signal }).catch(() => {});
  };

  for (let cycle = 0; cycle < cycles && !signal.aborted; cycle++) {
    // A VF may come back under another name: here it always does.
    const name = `vf${cycle}`;
    onStep(`the host gives VF ${name}`);
    await plugVf(pair, name);
    await pauseUntil(cycle + VF_SHARE);
    if (cycle === cycles - 2) {
      onStep(`VF ${name} vanishes without a word`);
      const from = nowNanos();
      nic.surprise();
      await sleep(NOTICE_MILLIS);
      await nic.hostNotices();
      result.windows.push({ name: SURPRISE, from, to: nowNanos() });
      await switched(port, 'synthetic');
    } else {
      onStep(`the host takes VF ${name}`);
      await unplugVf(pair);
    }
    await pauseUntil(cycle + 1);
    result.cycles++;
  }
  return result;
}
