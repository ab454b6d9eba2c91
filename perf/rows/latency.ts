/**
 * Round trips of one packet at a time through the port, beside the answer of the guest's own kernel in the same lab.
 *
 * The client (peers/ping-pong.c) has the last CPU and never sleeps. The port's worker, or for UDP the program that
 * answers on the kernel's stack (peers/udp-echo.c), has the first one; that program never sleeps either. The
 * kernel answers a ping from within the client's own system call, on the client's CPU: no other thread has
 * to notice anything.
 */
import { Lab } from '../../src/lab/host.ts';
import { openEchoPort, plug, plugKernel, unplug, withKernelEcho } from '../echo-lab.ts';
import { pingPong } from '../peers/ping-pong.ts';
import type { Budget, Comparison, Row, Sample } from '../row.ts';

type Mode = 'poll' | 'adaptive' | 'interrupt';

const PATHS = ['Vf', 'Synthetic'] as const;
const KINDS = ['ping', 'udp'] as const;
/** What may be lost on the kernel's own answer: a fifth. */
const GOAL = 1.2;

const GOALS: Comparison[] = PATHS.flatMap((path) =>
  KINDS.flatMap((kind) =>
    (['p50', 'p99'] as const).map((quantile): Comparison => {
      const what = `${kind === 'ping' ? 'ping' : 'UDP echo'} by the ${path === 'Vf' ? 'VF' : 'synthetic path'}`;
      const bare = path === 'Vf' && kind === 'ping' && quantile === 'p50';
      return {
        name: bare ? 'latency' : `latency:${kind}-${path.toLowerCase()}-${quantile}`,
        about: `${what}, port in poll mode beside the guest's kernel, ${quantile === 'p50' ? 'median' : '99 of 100'}`,
        ours: `poll.${kind}${path}${quantile}`,
        peer: `kernel.${kind}${path}${quantile}`,
        ...{ unit: 'µs', better: 'lower', goal: GOAL },
      };
    }),
  ),
);

const REPORTED: Comparison[] = (['adaptive', 'interrupt'] as const).flatMap((mode) =>
  PATHS.map(
    (path): Comparison => ({
      name: `latency:${mode}-${path.toLowerCase()}`,
      about: `ping by the ${path === 'Vf' ? 'VF' : 'synthetic path'}, port in ${mode} mode, median`,
      ours: `${mode}.ping${path}p50`,
      peer: `kernel.ping${path}p50`,
      ...{ unit: 'µs', better: 'lower' },
    }),
  ),
);

export const row: Row = {
  name: 'latency',
  about: 'one packet there and back, over and over; client on one core, port or guest kernel on the other',
  sides: {
    kernel: byKernel,
    poll: (budget) => byPort('poll', budget),
    adaptive: (budget) => byPort('adaptive', budget),
    interrupt: (budget) => byPort('interrupt', budget),
  },
  comparisons: [...GOALS, ...REPORTED],
  full: { runs: 3, seconds: 1 },
  quick: { runs: 1, seconds: 0.4 },
};

async function byPort(mode: Mode, budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  const port = await openEchoPort(lab, { mode });
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
}

async function byKernel(budget: Budget): Promise<Sample> {
  await using lab = await Lab.create({ queues: 1 });
  return await withKernelEcho(lab, 'poll', async () => {
    const synthetic = await both('Synthetic', lab, budget);
    await plugKernel(lab);
    return { ...(await both('Vf', lab, budget)), ...synthetic };
  });
}

/** Ping and UDP by the path that traffic takes now. */
async function both(path: (typeof PATHS)[number], lab: Lab, { seconds }: Budget): Promise<Sample> {
  const sample: Record<string, number> = {};
  for (const kind of KINDS) {
    const trip = await pingPong(kind === 'ping' ? 'icmp' : 'udp', lab, lab.nic.guestAddress, {
      seconds: seconds / (PATHS.length * KINDS.length),
    });
    for (const [quantile, micros] of Object.entries(trip)) sample[`${kind}${path}${quantile}`] = micros;
  }
  return sample;
}
