/** Rates: of work on this thread, of a counter that others advance, and the CPU time that something took. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Repeats `work`, which returns how many packets it has handled. Returns nanoseconds a packet. */
export function nanosEach(seconds: number, work: () => number): number {
  let packets = 0;
  let nanos = 0;
  const began = process.hrtime.bigint();
  while (nanos < seconds * 1e9) {
    packets += work();
    nanos = Number(process.hrtime.bigint() - began);
  }
  return nanos / packets;
}

/** By how many millions a second a counter grows. */
export async function growth(seconds: number, count: () => number | Promise<number>): Promise<number> {
  const before = await count();
  const began = performance.now();
  await sleep(seconds * 1000);
  return ((await count()) - before) / (performance.now() - began) / 1000;
}

/** What time has passed since the call, and what CPU time of the whole process, in milliseconds. */
export function stopwatch(): () => { millis: number; cpuMillis: number } {
  const began = performance.now();
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return { millis: performance.now() - began, cpuMillis: (user + system) / 1000 };
  };
}
