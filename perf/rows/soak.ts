/**
 * A port under load for long, its VF taken away and given back once in each interval: does anything decay or grow?
 *
 * `npm run perf -- --only soak --seconds 7200` takes two hours; the default is a look. The port has a process of its
 * own, so that its memory and descriptors are only its own. In each interval packets are counted on the VF and on
 * the synthetic path, apart from the change between them; then the process is weighed. The first part of the run does
 * not count: V8 compiles, and its heap finds its size.
 *
 * What is judged is the slope of a straight line through the intervals, in its standard errors: within ± 3 it is
 * noise. A short run sees a steep decay only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { QUEUES_BESIDE_TRAFFIC } from '../echo-lab.ts';
import { EchoProcess, openDescriptors, residentKib } from '../echo-process.ts';
import type { Budget, Row, Sample } from '../row.ts';
import { median, slope } from '../statistics.ts';

/** Of a whole run; longer runs have longer intervals, but a minute at most. */
const INTERVALS = 40;
const SHORTEST_MILLIS = 1000;
const LONGEST_MILLIS = 60_000;
/** Share of the intervals that does not count. */
const WARM = 0.2;
/** More than the lab can carry: the window of unanswered packets is what limits it. */
const RATE = 1_000_000;
/** After a change of path, before packets are counted again. */
const SETTLE_MILLIS = 50;
/** Of standard errors. */
const NOISE = 3;

export const row: Row = {
  name: 'soak',
  about: `a port under load, its VF comes and goes in every interval; queues: ${QUEUES_BESIDE_TRAFFIC}`,
  sides: { port: soak },
  comparisons: [
    {
      name: 'soak',
      about: 'decay of throughput, on the path where it is worse',
      ...{ ours: 'port.decay', unit: 'standard errors', better: 'lower', goal: NOISE },
    },
    {
      name: 'soak:memory',
      about: 'growth of resident memory',
      ...{ ours: 'port.growth', unit: 'standard errors', better: 'lower', goal: NOISE },
    },
    {
      name: 'soak:descriptors',
      about: 'growth of open descriptors from the first interval that counts to the last',
      ...{ ours: 'port.descriptors', unit: 'descriptors', better: 'lower', goal: 0 },
    },
    {
      name: 'soak:lost',
      about: 'packets lost, doubled or reordered, and frames that nothing accounts for',
      ...{ ours: 'port.lost', unit: 'packets', better: 'lower', goal: 0 },
    },
    {
      name: 'soak:vf',
      about: 'packets a second there and back by the VF, median of the intervals',
      ...{ ours: 'port.vf', unit: 'Mpps', better: 'higher' },
    },
    {
      name: 'soak:synthetic',
      about: 'the same by the synthetic path',
      ...{ ours: 'port.synthetic', unit: 'Mpps', better: 'higher' },
    },
    {
      name: 'soak:memory-slope',
      about: 'resident memory, by the slope',
      ...{ ours: 'port.kibPerHour', unit: 'KiB/h', better: 'lower' },
    },
  ],
  full: { runs: 1, seconds: 60 },
  quick: { runs: 1, seconds: 12 },
  onRequest: true,
};

/** What an interval came to. */
interface Interval {
  readonly seconds: number;
  readonly vf: number;
  readonly synthetic: number;
  readonly kib: number;
  readonly heapKib: number;
  readonly descriptors: number;
}

async function soak({ seconds, say }: Budget): Promise<Sample> {
  const millis = Math.min(LONGEST_MILLIS, Math.max(SHORTEST_MILLIS, (seconds * 1000) / INTERVALS));
  await using lab = await Lab.create({ queues: QUEUES_BESIDE_TRAFFIC });
  const { nic } = lab;
  const port = new EchoProcess(lab, { queues: QUEUES_BESIDE_TRAFFIC, frames: 8192 });
  await port.ownedBy('synthetic');
  const traffic = await Traffic.start(lab, nic, { rate: RATE });
  const rate = async (): Promise<number> => {
    await sleep(SETTLE_MILLIS);
    const before = traffic.progress().received;
    const began = performance.now();
    await sleep(millis / 2);
    return (traffic.progress().received - before) / (performance.now() - began) / 1000;
  };
  const began = performance.now();
  const intervals: Interval[] = [];
  let framesMissing = 0;
  while (performance.now() - began < seconds * 1000) {
    await nic.plug();
    await port.ownedBy('vf');
    await nic.moveDataPath('vf');
    const vf = await rate();
    await nic.unplug();
    await port.ownedBy('synthetic');
    const synthetic = await rate();
    const told = await port.ask();
    framesMissing += told.framesMissing;
    const interval: Interval = {
      ...{ seconds: (performance.now() - began) / 1000, vf, synthetic, kib: residentKib(port.pid) },
      ...{ heapKib: told.heapBytes / 1024, descriptors: openDescriptors(port.pid) },
    };
    intervals.push(interval);
    say(inWords(interval));
  }
  const { packets, icmp } = await traffic.stop();
  await port.close();
  const counted = intervals.slice(Math.floor(intervals.length * WARM));
  const line = (figure: keyof Interval) =>
    slope(
      counted.map((one) => one.seconds),
      counted.map((one) => one[figure]),
    );
  const memory = line('kib');
  const by = (path: 'vf' | 'synthetic'): number => median(counted.map((one) => one[path]));
  return {
    ...{ intervals: counted.length, packets: packets.sent, vf: by('vf'), synthetic: by('synthetic') },
    decay: Math.max(-line('vf').t, -line('synthetic').t),
    ...{ vfT: line('vf').t, syntheticT: line('synthetic').t, heapT: line('heapKib').t, growth: memory.t },
    ...{ kibPerHour: memory.slope * 3600, kibPerHourError: memory.error * 3600, kib: counted.at(-1)!.kib },
    descriptors: counted.at(-1)!.descriptors - counted[0]!.descriptors,
    lost: framesMissing + ledgerErrors(packets) + ledgerErrors(icmp),
  };
}

const ledgerErrors = (of: { lost: number; duplicated: number; reordered: number }): number =>
  of.lost + of.duplicated + of.reordered;

function inWords({ seconds, vf, synthetic, kib, heapKib, descriptors }: Interval): string {
  const mib = (value: number): string => `${(value / 1024).toFixed(1)} MiB`;
  const rates = `VF ${vf.toFixed(3)}, synthetic ${synthetic.toFixed(3)} Mpps`;
  return `${Math.round(seconds)} s: ${rates}; resident ${mib(kib)}, heap ${mib(heapKib)}, ${descriptors} descriptors`;
}
