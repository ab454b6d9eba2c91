/**
 * How throughput grows with the number of workers. Each is pinned to its own CPU and has its own circulating packets.
 *
 * `memory`: one port whose paths in memory hand back what they are sent, so only our own code runs. `veth`: two ports at the ends
 * of a veth pair, worker i with queue i of both; the core that sends a packet also does the kernel's work for it. The port always
 * has as many queues as the machine has CPUs, and only the first ones have packets, so the work for a packet is the same. `spin`:
 * the same threads only count: the limit of the machine itself.
 *
 * The universal scalability law (runner/statistics.ts) is fitted to the samples; fits to resamples give its uncertainty. A round
 * in which other processes took the CPUs is left out. Two CPUs give two points: then only α is fitted, and the figure for 8
 * workers is a guess.
 *
 * This file is also the entry of the threads that count.
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { openPort, openPorts, type Port } from '../../src/index.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { until } from '../../src/lab/wait.ts';
import { withNamespace } from '../rigs/lab.ts';
import { nanosEach, stopwatch } from '../rigs/timing.ts';
import { type Benchmark, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';
import { fitLaw, median, type Point, quantile, resampled, throughputOf } from '../runner/statistics.ts';

interface Throughput {
  /** Million packets (or steps) a second, of all workers together. */
  readonly millions: number;
  /** CPUs that the process had meanwhile; fewer than workers: other processes took them. */
  readonly cpus: number;
}

const CPUS = availableParallelism();
/** 1, 2, 3, 4, 6, 8, 12 … and as many as there are CPUs, 64 at most. */
const WORKERS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
  .filter((workers) => workers < CPUS)
  .concat(Math.min(CPUS, 64));
/** Share of their CPUs that workers must have had for a round to count: the goal is for CPUs that are free. */
const FREE = 0.93;
/** What is extrapolated to. */
const MANY = 8;
const RESAMPLES = 500;

const growth =
  (run: (workers: number, seconds: number) => Promise<Throughput>): Variant =>
  async ({ seconds, quick }) => {
    if (CPUS < 2) throw new Error('scaling needs two CPUs: there is one');
    const rounds = quick ? 1 : 3;
    const points: Point[] = [];
    for (let round = 0; round < rounds; round++) {
      const these: Point[] = [];
      for (const workers of WORKERS) {
        const { millions, cpus } = await run(workers, seconds / rounds / WORKERS.length);
        if (cpus >= workers * FREE) these.push({ workers, throughput: millions });
      }
      // All or none: figures of one round share the machine's state.
      if (these.length === WORKERS.length) points.push(...these);
    }
    if (points.length === 0) throw new Error('noisy: other processes wanted the CPUs in every round');
    return figures(points);
  };

function figures(points: readonly Point[]): Sample {
  const of = (workers: number): number =>
    median(points.filter((point) => point.workers === workers).map(({ throughput }) => throughput));
  const law = fitLaw(points);
  const others = resampled(points, RESAMPLES);
  const speedups = others.map((one) => throughputOf(one, MANY) / one.gamma);
  const alphas = others.map(({ alpha }) => alpha);
  const all = WORKERS.at(-1)!;
  return {
    one: of(1),
    two: of(2),
    efficiency: of(all) / of(1) / all,
    alpha: law.alpha,
    alphaHigh: quantile(alphas, 0.975),
    beta: law.beta,
    many: throughputOf(law, MANY) / law.gamma,
    manyLow: quantile(speedups, 0.025),
    manyHigh: quantile(speedups, 0.975),
  };
}

export const scaling: Benchmark = {
  name: 'scaling',
  about: `1 to ${CPUS} workers, each on a CPU with packets of its own circulating; nothing else sends`,
  variants: {
    memory: growth((loaded, seconds) => inMemory(CPUS, loaded, seconds)),
    veth: growth((loaded, seconds) => vethPair(CPUS, loaded, seconds)),
    spin: growth(spin),
  },
  comparisons: comparisons(
    `
    scaling:{path}            | {path}.two / {path}.one | Mpps      | ≥ 1.9 | {PATH}, two workers; peer: one
    scaling:{path}-efficiency | {path}.efficiency       | of one    |       | {PATH}: throughput of ${CPUS} workers per worker, as a share of one alone
    scaling:{path}-many       | {path}.many             | ×         |       | {PATH}: how many times one worker’s work ${MANY} workers would do
    scaling:{path}-manyLow    | {path}.manyLow          | ×         |       | {PATH}: the least that may be (2.5 % of resamples)
    scaling:{path}-manyHigh   | {path}.manyHigh         | ×         |       | {PATH}: the most that may be (97.5 % of resamples)
    scaling:machine           | spin.two / spin.one     | M steps/s |       | threads that only count, two of them; peer: one: what the machine gives
  `,
    { path: { memory: 'path in memory', veth: 'queues of a veth pair' } },
  ),
  full: { runs: 4, seconds: 2.4 },
  quick: { runs: 1, seconds: 1 },
};

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

const options = (queues: number, loaded: number) =>
  ({
    handler: new URL('../rigs/circulate-handler.js', import.meta.url),
    handlerOptions: { loaded, packets: CIRCULATING },
    ...{ queues, frames: FRAMES, pin: true },
  }) as const;

/** Threads that only count, each pinned to a CPU: what the machine gives to several threads at once. */
async function spin(threads: number, seconds: number): Promise<Throughput> {
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
async function inMemory(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const port = await openPort({ network: 'loop', ...options(queues, loaded) });
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
function vethPair(queues: number, loaded: number, seconds: number): Promise<Throughput> {
  const macs = ['02:15:5d:79:00:01', '02:15:5d:79:00:02'];
  const wide = `numtxqueues ${queues} numrxqueues ${queues}`;
  const lines = [
    `link add vf0 address ${macs[0]} ${wide} type veth peer name vf1 address ${macs[1]} ${wide}`,
    ...macs.map((mac, i) => `link add eth${i} address ${mac} type veth peer name idle${i}`),
    ...['eth0', 'idle0', 'vf0', 'eth1', 'idle1', 'vf1'].map((device) => `link set ${device} up`),
  ];
  return withNamespace(lines, async (netns) => {
    const pairs = ['eth0', 'eth1'].map((netvsc) => ({ netvsc, force: true }));
    const ports = await openPorts({ ports: pairs, netns, host: 'off', ...options(queues, loaded) });
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
