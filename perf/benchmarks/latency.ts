/**
 * Round trips of one packet at a time through the port, through a program in C over the same AF_XDP rings of the VF, and through
 * the guest's own kernel in the same lab (`latency`); the CPU time of a port without packets, and the delay of the first packet after
 * a pause (`idle`).
 *
 * The asker (peers/ping-pong.c) polls on the last CPU. The port's worker has the first CPU, as has the program that answers UDP on
 * the kernel's stack, which polls too. The kernel answers a ping within the asker's own system call, on the asker's CPU: no other
 * thread takes part. The program in C (peers/xsk-echo.c) is what a port can be compared with: a second thread, which polls or sleeps
 * as the worker does, and the same checks of each packet. It says what the worker adds to the kernel's rings.
 *
 * Idle CPU time is that of the whole process without a packet: two workers, the coordinator, the main thread. For the time to
 * wake, the asker sends one packet after each pause. The peer is a program that sleeps in recvfrom(2) on the guest kernel's stack.
 * Both use the VF, and both CPUs have gone to sleep before.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../src/lab/host.ts';
import {
  openLabPort,
  pingPong,
  plug,
  plugKernel,
  unplug,
  withKernelEcho,
  withVf,
  withXskEcho,
} from '../rigs/lab.ts';
import { stopwatch } from '../rigs/timing.ts';
import { type Benchmark, type Budget, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

type Mode = 'poll' | 'adaptive' | 'interrupt';

const KINDS = { ping: 'icmp', udp: 'udp' } as const;
/** Ping and UDP, on two paths. */
const PARTS = 4;

const byPort =
  (mode: Mode): Variant =>
  async (budget) => {
    await using lab = await Lab.create({ queues: 1 });
    const port = await openLabPort(lab, 'echo.js', { mode });
    // V8 compiles on the cores that are measured, and again what it had compiled before it met the other path.
    await both('Synthetic', lab, budget);
    await plug(lab, port);
    await both('Vf', lab, budget);
    await unplug(lab, port);
    const synthetic = await both('Synthetic', lab, budget);
    await plug(lab, port);
    const vf = await both('Vf', lab, budget);
    await port.close();
    return { ...vf, ...synthetic };
  };

async function byKernel(budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  return await withKernelEcho(lab, 'poll', async () => {
    const synthetic = await both('Synthetic', lab, budget);
    await plugKernel(lab);
    return { ...(await both('Vf', lab, budget)), ...synthetic };
  });
}

/** Through the VF alone: the synthetic path of a port has no AF_XDP rings. */
const byProgram =
  (how: 'poll' | 'wait'): Variant =>
  (budget) =>
    withVf((lab) => withXskEcho(lab, how, () => both('Vf', lab, budget)));

/** Ping and UDP on the path that traffic takes now. */
async function both(path: 'Vf' | 'Synthetic', lab: Lab, { seconds }: Budget): Promise<Sample> {
  const sample: Record<string, number> = {};
  for (const [name, kind] of Object.entries(KINDS)) {
    const trip = await pingPong(lab, kind, seconds / PARTS);
    for (const [quantile, micros] of Object.entries(trip)) sample[`${name}${path}${quantile}`] = micros;
  }
  return sample;
}

export const latency: Benchmark = {
  name: 'latency',
  about:
    'one packet there and back, over and over; the asker on one core, port, program in C or guest kernel on the other',
  variants: {
    kernel: byKernel,
    poll: byPort('poll'),
    xsk: byProgram('poll'),
    adaptive: byPort('adaptive'),
    interrupt: byPort('interrupt'),
    xskWait: byProgram('wait'),
  },
  comparisons: comparisons(
    `
    latency:{kind}-{path}-p50 | poll.{kind}{Path}p50 / kernel.{kind}{Path}p50 | µs | ≤ 1.2 | {KIND} through the {PATH}, port in poll mode; peer: the guest's kernel, median
    latency:{kind}-{path}-p99 | poll.{kind}{Path}p99 / kernel.{kind}{Path}p99 | µs | ≤ 1.2 | the same, 99 of 100
    latency:{kind}-c-p50      | poll.{kind}Vfp50 / xsk.{kind}Vfp50               | µs | ≤ 1.1 | {KIND} through the VF, port in poll mode; peer: a program in C that polls the same AF_XDP rings, median
    latency:{kind}-c-p99      | poll.{kind}Vfp99 / xsk.{kind}Vfp99               | µs | ≤ 1.1 | the same, 99 of 100
    latency:{kind}-c-wait     | interrupt.{kind}Vfp50 / xskWait.{kind}Vfp50      | µs |       | the same, port in interrupt mode; peer: that program, which sleeps, median
    latency:{mode}-{path}     | {mode}.ping{Path}p50 / kernel.ping{Path}p50   | µs |       | ping through the {PATH}, port in {mode} mode, median
  `,
    {
      path: { vf: 'VF', synthetic: 'synthetic path' },
      kind: { ping: 'ping', udp: 'UDP echo' },
      mode: { adaptive: '', interrupt: '' },
    },
  ),
  full: { runs: 3, seconds: 1 },
  quick: { runs: 1, seconds: 0.4 },
};

/** Much longer than a worker polls before it sleeps. */
const PAUSE_MILLIS = 20;
/** After it, the work of plugging the VF and opening the port is done, the collection of its garbage included. */
const SETTLE_MILLIS = 700;

const idling =
  (mode: Mode): Variant =>
  async (budget) => {
    // Workers that never sleep are never woken.
    const woken = mode === 'poll' ? {} : await wakePort(mode, budget);
    await using lab = await Lab.create({ queues: 2 });
    const port = await openLabPort(lab, 'echo.js', { mode, queues: 2 });
    await plug(lab, port);
    await sleep(SETTLE_MILLIS);
    const { received } = port.stats();
    const elapsed = stopwatch();
    await sleep(budget.seconds * 1000);
    const { millis, cpuMillis } = elapsed();
    if (port.stats().received !== received) throw new Error('packets came while the port was to be idle');
    await port.close();
    return { cpu: (100 * cpuMillis) / millis, ...woken };
  };

/** One queue, whose worker is on another CPU than the asker. */
async function wakePort(mode: Mode, budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  const port = await openLabPort(lab, 'echo.js', { mode });
  await plug(lab, port);
  const woken = await wakes(lab, budget);
  await port.close();
  return woken;
}

async function wakeKernel(budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  await plugKernel(lab);
  return await withKernelEcho(lab, 'wait', () => wakes(lab, budget));
}

async function wakes(lab: Lab, { seconds }: Budget): Promise<Sample> {
  const { p50, p90, max } = await pingPong(lab, 'udp', 1 + seconds / 2, PAUSE_MILLIS);
  return { wakeP50: p50, wakeP90: p90, wakeMax: max };
}

export const idle: Benchmark = {
  name: 'idle',
  about: 'a port without packets: two queues, both paths open; and the first packet after a pause',
  variants: {
    kernel: wakeKernel,
    poll: idling('poll'),
    adaptive: idling('adaptive'),
    interrupt: idling('interrupt'),
  },
  comparisons: comparisons(
    `
    idle:{mode}      | {mode}.cpu                      | % of a core | ≤ 1 | CPU of an idle port in {mode} mode, two queues and the VF
    idle:wake-{mode} | {mode}.wakeP50 / kernel.wakeP50 | µs          |     | UDP echo ${PAUSE_MILLIS} ms after the last, port in {mode} mode; peer: a sleeping program, median
    idle:poll        | poll.cpu                        | % of a core |     | CPU of an idle port in poll mode, two queues and the VF
  `,
    { mode: { adaptive: '', interrupt: '' } },
  ),
  full: { runs: 3, seconds: 2 },
  quick: { runs: 1, seconds: 1 },
};
