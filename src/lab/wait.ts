/** Bounded waiting: for a condition, and until frames under way have arrived. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import { nowNanos } from '../memory/shared.ts';

/** Until a switch port forwards: linkwatch may delay a carrier change by a second if a device flaps. */
export const FORWARDING_MILLIS = 5000;
/** The scheduler runs a starved ksoftirqd within a few slices of 3 ms; four quiet samples span two slices. */
const QUIET_MILLIS = 2;
const QUIET_SAMPLES = 4;
const DRAIN_MILLIS = 500;

/** @throws ERR_TIMEOUT */
export async function until(what: string, millis: number, condition: () => boolean): Promise<void> {
  const deadline = nowNanos() + millis * 1e6;
  while (!condition()) {
    if (nowNanos() > deadline) {
      throw new TwinpathError('ERR_TIMEOUT', { detail: `no ${what} within ${millis} ms` });
    }
    await sleep(1);
  }
}

/**
 * Waits until, as far as can be observed, no frame is under way to a device: its counter does not change, and since then
 * the backlog of each CPU was empty at least once. (Comparing the counters of a veth's two ends would not help: with native
 * XDP both count a frame when it leaves the ring.) Gives up after half a second.
 */
export async function drained(counter: () => number): Promise<void> {
  const deadline = nowNanos() + DRAIN_MILLIS * 1e6;
  let last = -1;
  let quiet = 0;
  const emptied: boolean[] = [];
  while (nowNanos() < deadline) {
    const now = counter();
    if (now === last) quiet++;
    else quiet = emptied.length = 0;
    last = now;
    backlogs().forEach((frames, cpu) => {
      emptied[cpu] ||= frames === 0;
    });
    if (quiet >= QUIET_SAMPLES && emptied.every(Boolean)) return;
    await sleep(QUIET_MILLIS);
  }
}

/** Frames that wait for a softirq, by CPU, of all namespaces: twelfth column, net/core/net-procfs.c. */
function backlogs(): number[] {
  const lines = readFileSync('/proc/net/softnet_stat', 'ascii').trim().split('\n');
  return lines.map((line) => Number.parseInt(line.split(' ')[11] ?? '0', 16));
}
