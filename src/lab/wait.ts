/**
 * Waiting in a lab: for a condition, and for frames under way to arrive. Bounded, both of them.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import { monotonicNanos } from './clock.ts';

/** Until a port forwards: linkwatch may hold a carrier change back for a second when a device flaps. */
export const FORWARDING_MILLIS = 5000;
/** A starved ksoftirqd gets its turn within a few scheduler slices of 3 ms; four quiet samples span two. */
const QUIET_MILLIS = 2;
const QUIET_SAMPLES = 4;
const DRAIN_MILLIS = 500;

/** @throws ERR_TIMEOUT */
export async function until(what: string, millis: number, condition: () => boolean): Promise<void> {
  const deadline = monotonicNanos() + millis * 1e6;
  while (!condition()) {
    if (monotonicNanos() > deadline) {
      throw new TwinpathError('ERR_TIMEOUT', { detail: `no ${what} within ${millis} ms` });
    }
    await sleep(1);
  }
}

/**
 * Waits until no frame is under way to a device, as far as that can be seen: its counter stands still,
 * and since it does each CPU has been seen without a backlog. (With native XDP a veth counts a frame
 * when it takes it out of the ring and not before, on both ends alike, so comparing the ends tells
 * nothing.) Gives up after half a second of traffic that does not stop.
 */
export async function drained(counter: () => number): Promise<void> {
  const deadline = monotonicNanos() + DRAIN_MILLIS * 1e6;
  let last = -1;
  let quiet = 0;
  const emptied: boolean[] = [];
  while (monotonicNanos() < deadline) {
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

/** Frames that wait for a softirq, by CPU, all namespaces together: net/core/net-procfs.c, twelfth column. */
function backlogs(): number[] {
  const lines = readFileSync('/proc/net/softnet_stat', 'ascii').trim().split('\n');
  return lines.map((line) => Number.parseInt(line.split(' ')[11] ?? '0', 16));
}
