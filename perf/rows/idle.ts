/**
 * What a port costs while nothing happens, and how long the first packet after a silence waits.
 *
 * CPU time is that of the whole process over a stretch without a packet: two workers, the coordinator, the
 * main thread. For the time to wake one packet at a time is sent after a pause; the other side is a program that
 * sleeps in recvfrom(2) on the guest kernel's stack (peers/udp-echo.c). Both by the VF, and both on a CPU that had
 * gone to sleep itself.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../src/lab/host.ts';
import { openEchoPort, plug, plugKernel, withKernelEcho } from '../echo-lab.ts';
import { pingPong, type RoundTrip } from '../peers/ping-pong.ts';
import type { Budget, Comparison, Row, Sample } from '../row.ts';

type Mode = 'poll' | 'adaptive' | 'interrupt';

/** Longer than a worker looks before it sleeps, by far. */
const SILENCE_MILLIS = 20;
/** What plugging the VF and opening the port left to do is done then, collecting their garbage included. */
const SETTLE_MILLIS = 700;

const wake = (mode: 'adaptive' | 'interrupt'): Comparison => ({
  name: `idle:wake-${mode}`,
  about: `UDP echo ${SILENCE_MILLIS} ms after the last, port in ${mode} mode beside a sleeping program, median`,
  ...{ ours: `${mode}.wakeP50`, peer: 'kernel.wakeP50', unit: 'µs', better: 'lower' },
});

const cpu = (mode: Mode, name: string, goal?: number): Comparison => ({
  name,
  about: `CPU of an idle port in ${mode} mode, two queues and the VF`,
  ...{ ours: `${mode}.cpu`, unit: '% of a core', better: 'lower', goal },
});

export const row: Row = {
  name: 'idle',
  about: 'a port with nothing to do: two queues, both paths open; and the first packet after a silence',
  sides: {
    kernel: wakeKernel,
    poll: (budget) => idle('poll', budget),
    adaptive: (budget) => idle('adaptive', budget),
    interrupt: (budget) => idle('interrupt', budget),
  },
  comparisons: [
    cpu('adaptive', 'idle', 1),
    cpu('interrupt', 'idle:interrupt', 1),
    cpu('poll', 'idle:poll'),
    wake('adaptive'),
    wake('interrupt'),
  ],
  full: { runs: 3, seconds: 2 },
  quick: { runs: 1, seconds: 1 },
};

async function idle(mode: Mode, budget: Budget): Promise<Sample> {
  // Workers that never sleep are never woken.
  const woken = mode === 'poll' ? {} : await wakePort(mode, budget);
  await using lab = await Lab.create({ queues: 2 });
  const port = await openEchoPort(lab, { mode, queues: 2 });
  await plug(lab, port);
  await sleep(SETTLE_MILLIS);
  const before = process.cpuUsage();
  const began = performance.now();
  const { received } = port.stats();
  await sleep(budget.seconds * 1000);
  const used = process.cpuUsage(before);
  const millis = performance.now() - began;
  if (port.stats().received !== received) throw new Error('packets came into the silence');
  await port.close();
  return { cpu: (used.user + used.system) / 10 / millis, ...woken };
}

/** One queue, whose worker is on the other CPU than the client. */
async function wakePort(mode: Mode, budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  const port = await openEchoPort(lab, { mode });
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
  const options = { seconds: 1 + seconds / 2, pauseMillis: SILENCE_MILLIS };
  const { p50, p90, max }: RoundTrip = await pingPong('udp', lab, lab.nic.guestAddress, options);
  return { wakeP50: p50, wakeP90: p90, wakeMax: max };
}
