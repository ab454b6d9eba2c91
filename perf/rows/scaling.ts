/**
 * How throughput grows with workers, each pinned to a CPU of its own, with packets of its own going round.
 *
 * `memory`: one port on the memory path; each worker plays its queue's network too, so nothing runs but our own
 * code. `veth`: two ports at the ends of a veth pair, worker i with queue i of both; the kernel's work for a
 * packet is done on the core that sends it. The port has as many queues as the machine has CPUs in every case,
 * and only as many of them are loaded as workers are wanted: the work for a packet is the same. `spin`: the
 * same threads only count, so this is what the machine gives to several at once, whatever they do.
 *
 * The universal scalability law (scalability.ts) is fitted to the samples, and its doubt comes from fits to
 * resamples. A round in which somebody else wanted the CPUs is left out. On two CPUs there are two points, so α alone is fitted, and what it says of 8 workers is a hope.
 */
import { availableParallelism } from 'node:os';
import type { Budget, Comparison, Row, Sample, Side } from '../row.ts';
import { fitLaw, type Point, resampled, throughputOf } from '../scalability.ts';
import { memoryPath, spin, type Throughput, vethPair } from '../scaling/throughput.ts';
import { median, quantile } from '../statistics.ts';

const CPUS = availableParallelism();
/** 1, 2, 3, 4, 6, 8, 12 … and as many as there are CPUs, 64 at most. */
const WORKERS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
  .filter((workers) => workers < CPUS)
  .concat(Math.min(CPUS, 64));
/** What workers must be given of their CPUs for a round to count: the goal is for CPUs that are free. */
const FREE = 0.93;
/** What is extrapolated to. */
const MANY = 8;
const RESAMPLES = 500;

const growth =
  (run: (workers: number, seconds: number) => Promise<Throughput>) =>
  async ({ seconds, quick }: Budget): Promise<Sample> => {
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
    if (points.length === 0) throw new Error('noisy: somebody else wanted the CPUs in every round');
    return figures(points);
  };

function figures(points: readonly Point[]): Record<string, number> {
  const of = (workers: number): number =>
    median(points.filter((point) => point.workers === workers).map(({ throughput }) => throughput));
  const law = fitLaw(points);
  const many = throughputOf(law, MANY) / law.gamma;
  const others = resampled(points, RESAMPLES);
  const speedups = others.map((one) => throughputOf(one, MANY) / one.gamma);
  const alphas = others.map(({ alpha }) => alpha);
  const all = WORKERS.at(-1)!;
  return {
    one: of(1),
    two: of(2),
    efficiency: of(all) / of(1) / all,
    ...{ alpha: law.alpha, alphaHigh: quantile(alphas, 0.975), beta: law.beta },
    ...{ many, manyLow: quantile(speedups, 0.025), manyHigh: quantile(speedups, 0.975) },
  };
}

const sides: Record<string, Side> = {
  memory: growth((loaded, seconds) => memoryPath(CPUS, loaded, seconds)),
  veth: growth((loaded, seconds) => vethPair(CPUS, loaded, seconds)),
  spin: growth((workers, seconds) => spin(workers, seconds)),
};

const GOAL = 1.9;

/** From one worker to two, and what the law makes of it. */
function lines(side: string, what: string, prefix: string): Comparison[] {
  const figure = (name: string, about: string, unit: string, better: 'higher' | 'lower'): Comparison => ({
    name: `${prefix}-${name}`,
    about: `${what}: ${about}`,
    ...{ ours: `${side}.${name}`, unit, better },
  });
  return [
    figure(
      'efficiency',
      `throughput of ${CPUS} workers per worker, as a share of one alone`,
      'of one',
      'higher',
    ),
    figure('many', `how many times one worker’s work ${MANY} workers would do`, '×', 'higher'),
    figure('manyLow', 'the least that may be (2.5 % of resamples)', '×', 'higher'),
    figure('manyHigh', 'the most that may be (97.5 % of resamples)', '×', 'higher'),
  ];
}

export const row: Row = {
  name: 'scaling',
  about: `1 to ${CPUS} workers, each on a CPU with packets of its own going round; nobody else sends`,
  sides,
  comparisons: [
    {
      name: 'scaling',
      about: 'memory path, two workers beside one',
      ...{ ours: 'memory.two', peer: 'memory.one', unit: 'Mpps', better: 'higher', goal: GOAL },
    },
    ...lines('memory', 'memory path', 'scaling:memory'),
    {
      name: 'scaling:veth',
      about: 'queues of a veth pair, two workers beside one',
      ...{ ours: 'veth.two', peer: 'veth.one', unit: 'Mpps', better: 'higher', goal: GOAL },
    },
    ...lines('veth', 'veth', 'scaling:veth'),
    {
      name: 'scaling:machine',
      about: 'threads that only count, two beside one: what the machine gives',
      ...{ ours: 'spin.two', peer: 'spin.one', unit: 'M steps/s', better: 'higher' },
    },
  ],
  full: { runs: 4, seconds: 2.4 },
  quick: { runs: 1, seconds: 1 },
};
