/** Thread entry: counts, pinned to a CPU, and touches no memory: what the machine itself gives to several threads at once. */
import { parentPort, workerData } from 'node:worker_threads';
import { loadShim } from '../../src/kernel/shim.ts';

const { cpu, millis, arrivals, threads } = workerData as {
  cpu: number;
  millis: number;
  /** One word: how many threads are ready. */
  arrivals: Int32Array;
  threads: number;
};
const PORTION = 1_000_000;

function portion(seed: number): number {
  let state = seed;
  for (let i = 0; i < PORTION; i++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
  return state;
}

loadShim().affinity(cpu);
let state = 1;
for (let i = 0; i < 20; i++) state = portion(state);
Atomics.add(arrivals, 0, 1);
while (Atomics.load(arrivals, 0) < threads);
let portions = 0;
const cpuBefore = process.cpuUsage();
const began = performance.now();
while (performance.now() - began < millis) {
  state = portion(state);
  portions++;
}
const elapsed = performance.now() - began;
const { user, system } = process.cpuUsage(cpuBefore);
parentPort!.postMessage({
  ...{ perSecond: (portions * PORTION * 1000) / elapsed, state },
  /** Of the whole process. */
  cpus: (user + system) / 1000 / elapsed,
});
