/**
 * How throughput grows with the number of workers. Each is pinned to its own CPU and has its own circulating packets.
 *
 * `memory`: one port on the memory path; each worker also stands for the network of its queue, so only our own code runs. `veth`:
 * two ports at the ends of a veth pair, worker i with queue i of both; the core that sends a packet also does the kernel's work
 * for it. The port always has as many queues as the machine has CPUs, and only the first ones have packets, so the work for a
 * packet is the same. `spin`: the same threads only count: the limit of the machine itself.
 *
 * The universal scalability law (runner/statistics.ts) is fitted to the samples; fits to resamples give its uncertainty. A round
 * in which other processes took the CPUs is left out. Two CPUs give two points: then only α is fitted, and the figure for 8
 * workers is a guess.
 */
import { availableParallelism } from 'node:os';
import { memoryPath, spin, type Throughput, vethPair } from '../rigs/throughput.ts';
import { type Benchmark, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';
import { fitLaw, median, type Point, quantile, resampled, throughputOf } from '../runner/statistics.ts';

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
    memory: growth((loaded, seconds) => memoryPath(CPUS, loaded, seconds)),
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
    { path: { memory: 'memory path', veth: 'queues of a veth pair' } },
  ),
  full: { runs: 4, seconds: 2.4 },
  quick: { runs: 1, seconds: 1 },
};
