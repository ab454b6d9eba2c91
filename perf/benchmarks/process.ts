/**
 * A port in its own process (rigs/port-process.ts): how fast it starts, how much memory it takes, and whether either gets worse.
 *
 * `start`: the time from the start of a process, which is only Node and Twinpath, to the first packet that its port answers, and
 * the memory that the process then has. An asker outside (peers/ping-pong.c) asks five thousand times a second from before the
 * start. `node` is Node alone, which prints a word. Memory is the whole resident set: Node's, its threads', and the shared memory
 * with every packet frame. `opens` is one process that opens a port and closes it again and again, and the CPU time of its threads
 * meanwhile, in user mode and in system calls: most of it is for loading the code of the port's own threads.
 *
 * `soak`: a port under load for long, whose VF is taken away and given back once in each interval. `npm run perf -- --only soak
 * --seconds 7200` takes two hours; the default finds only a steep decay. In each interval packets are counted on the VF and on the
 * synthetic path, apart from the switch between them; then the memory is read. The first intervals are left out: V8 compiles, and
 * its heap grows to its size. The result is the slope of a straight line through the intervals, in its standard errors: within ± 3
 * it is noise.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { nowNanos } from '../../src/memory/shared.ts';
import type { OpenPortOptions } from '../../src/options.ts';
import { Peer } from '../peers/program.ts';
import { portOptions, QUEUES_UNDER_TRAFFIC } from '../rigs/lab.ts';
import { openDescriptors, PortProcess, residentKib } from '../rigs/port-process.ts';
import { growth } from '../rigs/timing.ts';
import { type Benchmark, type Budget, comparisons, type Sample } from '../runner/benchmark.ts';
import { median, slope } from '../runner/statistics.ts';

const FRAMES = 8192;
const MANY_FRAMES = 32_768;
/** From the first packet to reading the memory: V8 has collected the garbage of starting, or will not soon. */
const MEMORY_MILLIS = 500;
const KIB = 1024;
/** Ports opened, one after the other; fewer in a quick run. */
const OPENS = 20;
const QUICK_OPENS = 5;

async function nodeAlone(): Promise<Sample> {
  const began = nowNanos();
  const child = spawn(process.execPath, ['-e', 'console.log("here"); setInterval(() => {}, 1000)'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const ms = (nowNanos() - began) / 1e6;
  await sleep(MEMORY_MILLIS);
  const mib = residentKib(child.pid!) / KIB;
  child.kill('SIGKILL');
  return { ms, mib };
}

async function starts(): Promise<Sample> {
  const synthetic = await startPort(1, FRAMES, false);
  const one = await startPort(1, FRAMES, true);
  const two = await startPort(2, FRAMES, true);
  const many = await startPort(1, MANY_FRAMES, true);
  return {
    synthetic: synthetic.millis,
    vf: one.millis,
    mib: one.kib / KIB,
    mibPerQueue: (two.kib - one.kib) / KIB,
    bytesPerFrame: ((many.kib - one.kib) * KIB) / (MANY_FRAMES - FRAMES),
  };
}

/** In a lab of its own: milliseconds to the first packet, and the resident set after it. */
async function startPort(
  queues: number,
  frames: number,
  vf: boolean,
): Promise<Record<'millis' | 'kib', number>> {
  await using lab = await Lab.create({ queues });
  const { nic } = lab;
  if (vf) {
    await nic.plug();
    await nic.moveDataPath('vf');
  }
  const asker = Peer.start(lab.outside, 'ping-pong', 'first', nic.guestAddress);
  const began = nowNanos();
  const port = new PortProcess(portOptions(lab, 'echo.js', { queues, frames }));
  try {
    const millis = (Number(await asker.output()) - began) / 1e6;
    await sleep(MEMORY_MILLIS);
    return { millis, kib: residentKib(port.pid) };
  } finally {
    await port.close();
  }
}

async function opens({ quick }: Budget): Promise<Sample> {
  const count = quick ? QUICK_OPENS : OPENS;
  await using lab = await Lab.create({ queues: 1 });
  const handler = new URL('../../src/handlers/reflect.js', import.meta.url);
  return {
    memory: await cpuOfOpening({ network: 'memory', queues: 1, handler }, count),
    lab: await cpuOfOpening(portOptions(lab, 'echo.js', { pin: false }), count),
  };
}

/** CPU seconds of this process to open such a port and to close it: the median, without the first. */
async function cpuOfOpening(options: OpenPortOptions, count: number): Promise<number> {
  const seconds: number[] = [];
  for (let i = 0; i <= count; i++) {
    const before = process.cpuUsage();
    const port = await openPort(options);
    await port.close();
    const { user, system } = process.cpuUsage(before);
    seconds.push((user + system) / 1e6);
  }
  return median(seconds.slice(1));
}

export const start: Benchmark = {
  name: 'start',
  about: `process start to first packet, and resident memory; ${FRAMES} frames of 2048 bytes a queue`,
  variants: { node: nodeAlone, port: starts, opens },
  comparisons: comparisons(`
    start              | port.synthetic / node.ms | ms    | | process start to first packet answered, no VF, one queue; peer: Node alone
    start:vf           | port.vf / node.ms        | ms    | | the same with the VF there, which carries the traffic
    start:cpu          | opens.memory             | CPU s | | opening a port in memory with one queue, and closing it
    start:cpu-lab      | opens.lab                | CPU s | | the same on the kernel's devices, no VF
    start:memory       | port.mib / node.mib      | MiB   | | resident memory with one queue and the VF; peer: Node alone
    start:memory-queue | port.mibPerQueue         | MiB   | | growth for one queue more, its ${FRAMES} frames (16 MiB) and its worker included
    start:memory-frame | port.bytesPerFrame       | bytes | | growth for one frame more, of which 2048 are the frame
  `),
  full: { runs: 5, seconds: 5 },
  quick: { runs: 1, seconds: 5 },
};

/** Of a whole run; longer runs have longer intervals, but a minute at most. */
const INTERVALS = 40;
const MIN_MILLIS = 1000;
const MAX_MILLIS = 60_000;
/** Share of the intervals that is left out. */
const WARM = 0.2;
/** More than the lab can carry: the window of unanswered packets limits it. */
const RATE = 1_000_000;
/** After a change of path, before packets are counted again. */
const SETTLE_MILLIS = 50;
export const soak: Benchmark = {
  name: 'soak',
  about: `a port under load, its VF comes and goes in every interval; queues: ${QUEUES_UNDER_TRAFFIC}`,
  variants: { port: soaks },
  comparisons: comparisons(`
    soak              | port.decay       | standard errors | ≤ 3 | decay of throughput, on the path where it is worse
    soak:memory       | port.growth      | standard errors | ≤ 3 | growth of resident memory
    soak:descriptors  | port.descriptors | descriptors     | ≤ 0 | growth of open descriptors from the first interval that counts to the last
    soak:lost         | port.lost        | packets         | ≤ 0 | packets lost, doubled or reordered, and frames that nothing accounts for
    soak:vf           | port.vf          | Mpps            |     | packets a second there and back through the VF, median of the intervals
    soak:synthetic    | port.synthetic   | Mpps            |     | the same through the synthetic path
    soak:memory-slope | port.kibPerHour  | KiB/h           |     | growth of resident memory, from the slope
  `),
  full: { runs: 1, seconds: 60 },
  quick: { runs: 1, seconds: 12 },
  onRequest: true,
};

/** Figures of an interval: packets a second by path, then what the process has. */
type Interval = Readonly<Record<'seconds' | 'vf' | 'synthetic' | 'kib' | 'descriptors', number>>;

async function soaks({ seconds, report }: Budget): Promise<Sample> {
  const millis = Math.min(MAX_MILLIS, Math.max(MIN_MILLIS, (seconds * 1000) / INTERVALS));
  await using lab = await Lab.create({ queues: QUEUES_UNDER_TRAFFIC });
  const { nic } = lab;
  const port = new PortProcess(portOptions(lab, 'echo.js', { queues: QUEUES_UNDER_TRAFFIC }));
  await port.ownedBy('synthetic');
  const traffic = await Traffic.start(lab, nic, { rate: RATE });
  const rate = async (): Promise<number> => {
    await sleep(SETTLE_MILLIS);
    return await growth(millis / 2000, () => traffic.progress().received);
  };
  const began = performance.now();
  const elapsed = (): number => (performance.now() - began) / 1000;
  const intervals: Interval[] = [];
  let lost = 0;
  while (elapsed() < seconds) {
    await nic.plug();
    await port.ownedBy('vf');
    await nic.moveDataPath('vf');
    const vf = await rate();
    await nic.unplug();
    await port.ownedBy('synthetic');
    const synthetic = await rate();
    const { framesMissing, heapBytes } = await port.status(true);
    lost += framesMissing;
    const [kib, descriptors] = [residentKib(port.pid), openDescriptors(port.pid)];
    intervals.push({ seconds: elapsed(), vf, synthetic, kib, descriptors });
    const rates = `VF ${vf.toFixed(3)}, synthetic ${synthetic.toFixed(3)} Mpps`;
    const memory = `resident ${(kib / KIB).toFixed(1)} MiB, heap ${(heapBytes / KIB / KIB).toFixed(1)} MiB`;
    report(`${Math.round(elapsed())} s: ${rates}; ${memory}, ${descriptors} descriptors`);
  }
  const { packets, icmp } = await traffic.stop();
  await port.close();
  for (const one of [packets, icmp]) lost += one.lost + one.duplicated + one.reordered;
  const counted = intervals.slice(Math.floor(intervals.length * WARM));
  const all = (figure: keyof Interval): number[] => counted.map((one) => one[figure]);
  const line = (figure: keyof Interval) => slope(all('seconds'), all(figure));
  const [first, last] = [counted[0]!, counted.at(-1)!];
  return {
    vf: median(all('vf')),
    synthetic: median(all('synthetic')),
    decay: Math.max(-line('vf').t, -line('synthetic').t),
    growth: line('kib').t,
    kibPerHour: line('kib').slope * 3600,
    descriptors: last.descriptors - first.descriptors,
    lost,
  };
}
