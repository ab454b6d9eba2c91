/**
 * The throughput of several workers: threads that count, a port on the memory path, ports at the ends of a veth pair.
 *
 * This file is also the entry of the threads that count.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { openPort, openPorts, type Port } from '../../src/index.ts';
import { pageSize } from '../../src/kernel/machine.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { until } from '../../src/lab/wait.ts';
import { geometryOf } from '../../src/settings.ts';
import { withNamespace } from './lab.ts';
import { nanosEach, stopwatch } from './timing.ts';

export interface Throughput {
  /** Million packets (or steps) a second, of all workers together. */
  readonly millions: number;
  /** CPUs that the process had meanwhile; fewer than workers: other processes took them. */
  readonly cpus: number;
}

const HANDLER = new URL('./circulate-handler.js', import.meta.url);
/** Of each queue: some bursts, which fit its rings. */
const CIRCULATING = 512;
const FRAMES = 4096;
const WARM_MILLIS = 250;
/** Steps of a counting thread between readings of the clock. */
const STEPS = 1_000_000;
/** Until packets circulate. */
const START_MILLIS = 5000;

interface Counting {
  readonly cpu: number;
  readonly seconds: number;
  readonly threads: number;
  /** One word: how many threads are ready. */
  readonly arrivals: Int32Array;
}

/** Threads that only count, each pinned to a CPU: what the machine gives to several threads at once. */
export async function spin(threads: number, seconds: number): Promise<Throughput> {
  const arrivals = new Int32Array(new SharedArrayBuffer(4));
  const counts = await Promise.all(
    Array.from({ length: threads }, async (_, cpu): Promise<Throughput> => {
      const order: Counting = { cpu, seconds, threads, arrivals };
      const [count] = await once(
        new Worker(fileURLToPath(import.meta.url), { workerData: order }),
        'message',
      );
      return count;
    }),
  );
  const millions = counts.reduce((sum, count) => sum + count.millions, 0);
  return { millions, cpus: Math.max(...counts.map(({ cpus }) => cpus)) };
}

function countSteps({ cpu, seconds, threads, arrivals }: Counting): Throughput {
  let state = 1;
  const portion = (): number => {
    for (let i = 0; i < STEPS; i++) state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return STEPS;
  };
  loadShim().affinity(cpu);
  for (let i = 0; i < 20; i++) portion(); // V8 has compiled it after this
  Atomics.add(arrivals, 0, 1);
  while (Atomics.load(arrivals, 0) < threads);
  const elapsed = stopwatch();
  const nanos = nanosEach(seconds, portion);
  const { millis, cpuMillis } = elapsed(); // CPU time of the whole process
  return { millions: 1e3 / nanos, cpus: cpuMillis / millis };
}

if (workerData?.arrivals !== undefined) parentPort!.postMessage(countSteps(workerData));

/** One port of `queues` queues, of which the first `loaded` have packets. Only our own code runs. */
export async function memoryPath(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const geometry = geometryOf({ ports: [{}], queues, frameSize: 2048, frames: FRAMES }, pageSize());
  const handlerOptions = { loaded, packets: CIRCULATING, geometry };
  const options = { handler: HANDLER, handlerOptions, queues, frames: FRAMES, pin: true };
  const port = await openPort({ network: 'memory', ...options });
  try {
    return await measure([port], loaded, seconds);
  } finally {
    await port.close();
  }
}

/**
 * Two ports, each with one end of a veth pair as its VF: worker i has queue i of both ends, and what it sends on one arrives
 * on the other. A device that carries nothing stands for the NetVSC.
 */
export function vethPair(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const macs = ['02:15:5d:79:00:01', '02:15:5d:79:00:02'];
  const wide = `numtxqueues ${queues} numrxqueues ${queues}`;
  const lines = [
    `link add vf0 address ${macs[0]} ${wide} type veth peer name vf1 address ${macs[1]} ${wide}`,
    ...macs.map((mac, i) => `link add eth${i} address ${mac} type veth peer name idle${i}`),
    ...['eth0', 'idle0', 'vf0', 'eth1', 'idle1', 'vf1'].map((device) => `link set ${device} up`),
  ];
  return withNamespace(lines, async (netns) => {
    const handlerOptions = { loaded, packets: CIRCULATING };
    const options = { handler: HANDLER, handlerOptions, queues, frames: FRAMES, pin: true };
    const pairs = ['eth0', 'eth1'].map((netvsc) => ({ netvsc, force: true }));
    const ports = await openPorts({ ports: pairs, netns, host: 'off', ...options });
    try {
      return await measure(ports, loaded, seconds);
    } finally {
      await ports[0]!.close();
    }
  });
}

/** @throws Error if a queue that should have packets has none, or another one has */
async function measure(ports: readonly Port[], loaded: number, seconds: number): Promise<Throughput> {
  const receivedBy = (port: Port, queue: number): number => {
    const { vf, synthetic } = port.stats().queues[queue]!.paths;
    return vf.rxPackets + synthetic.rxPackets;
  };
  const received = (): number[] =>
    ports[0]!.stats().queues.map((_, queue) => ports.reduce((sum, port) => sum + receivedBy(port, queue), 0));
  const circulate = (): boolean => received().every((count, queue) => queue >= loaded || count > CIRCULATING);
  await until('packets that circulate', START_MILLIS, circulate);
  await sleep(WARM_MILLIS);
  const before = received();
  const elapsed = stopwatch();
  await sleep(seconds * 1000);
  const { millis, cpuMillis } = elapsed();
  const counts = received().map((count, queue) => count - before[queue]!);
  counts.forEach((count, queue) => {
    if (count > 0 !== queue < loaded)
      throw new Error(`queue ${queue} of ${loaded} with packets received ${count}`);
  });
  const sum = counts.reduce((all, count) => all + count, 0);
  return { millions: sum / millis / 1000, cpus: cpuMillis / millis };
}
