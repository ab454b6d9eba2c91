/**
 * What a TCP stream goes through while the VF comes and goes, and while the process that holds the port is killed.
 *
 * The VF is plugged and unplugged five times in the time of the stream, evenly, the third time by surprise. The
 * kill comes in the middle: from then on the kernel's own traffic flows as before the port was opened.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Stream } from '../iperf.ts';
import type { Comparison, Row, Sample, Side } from '../row.ts';
import {
  DIRECTIONS,
  type Direction,
  type HeldPort,
  type Mode,
  moveToVf,
  streamThrough,
  withoutPort,
  withPort,
} from '../tcp.ts';

type Lab = Parameters<typeof streamThrough>[0];

const CYCLES = 5;
const SURPRISE = 2;
/** Tenths of a second around the kill that count neither before nor after it. */
const AROUND_KILL = 5;

async function failovers(lab: Lab, port: HeldPort, seconds: number): Promise<void> {
  const { nic } = lab;
  const began = performance.now();
  const step = (seconds * 1000) / (2 * CYCLES + 1);
  const reach = (steps: number): Promise<void> =>
    sleep(Math.max(0, began + steps * step - performance.now()));
  for (let cycle = 0; cycle < CYCLES; cycle++) {
    await reach(2 * cycle + 0.5);
    await moveToVf(lab, port);
    await reach(2 * cycle + 1.5);
    if (cycle === SURPRISE) {
      nic.surprise();
      await sleep(20);
      await nic.hostNotices();
    } else await nic.unplug();
    await port.owned('synthetic');
  }
}

/** A stream, and what happens to its port meanwhile. */
async function disturbed(
  direction: Direction,
  [lab, port]: readonly [Lab, HeldPort],
  seconds: number,
  disturb: (lab: Lab, port: HeldPort, seconds: number) => Promise<void>,
): Promise<Stream> {
  let doing: Promise<void> | undefined;
  const result = await streamThrough(lab, direction, seconds, () => {
    doing = disturb(lab, port, seconds);
    doing.catch(() => {}); // it is awaited below, when the stream is over
  });
  await doing;
  return result;
}

const switched =
  (mode: Mode): Side =>
  async ({ seconds }) => {
    const sample: Record<string, number> = {};
    for (const direction of DIRECTIONS) {
      const { gigabits, retransmissions, stallMillis } = await withPort(
        { mode, path: 'synthetic' },
        (...both) => disturbed(direction, both, seconds / 2, failovers),
      );
      sample[direction] = gigabits;
      sample[`${direction}Stall`] = stallMillis;
      sample[`${direction}Retransmitted`] = retransmissions;
    }
    return sample;
  };

const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

async function killed(seconds: number): Promise<Sample> {
  const sample: Record<string, number> = {};
  for (const direction of DIRECTIONS) {
    const { tenths, stallMillis } = await withPort({ mode: 'inline', path: 'vf' }, (...both) =>
      disturbed(direction, both, seconds / 2, async (_, port, length) => {
        await sleep(length * 500);
        await port.kill();
      }),
    );
    const middle = (seconds / 2) * 5;
    sample[`${direction}Before`] = mean(tenths.slice(0, middle - AROUND_KILL));
    sample[`${direction}After`] = mean(tenths.slice(middle + AROUND_KILL));
    sample[`${direction}Stall`] = stallMillis;
  }
  return sample;
}

const plain: Side = ({ seconds }) =>
  withoutPort(async (lab) => ({
    in: (await streamThrough(lab, 'in', seconds / 8)).gigabits,
    out: (await streamThrough(lab, 'out', seconds / 8)).gigabits,
  }));

const WAYS: Record<Direction, string> = { in: 'received', out: 'sent' };

const lines = (mode: Mode): Comparison[] =>
  DIRECTIONS.flatMap((direction): Comparison[] => [
    {
      name: mode === 'inline' && direction === 'in' ? 'tcp-failover' : `tcp-failover:${mode}-${direction}`,
      about: `${mode}, ${WAYS[direction]}, the VF plugged and unplugged five times, once by surprise; beside no port`,
      ...{ ours: `${mode}.${direction}`, peer: `plain.${direction}`, unit: 'Gbit/s', better: 'higher' },
    },
    {
      name: `tcp-failover:${mode}-${direction}-stall`,
      about: 'the longest time without a segment meanwhile',
      ...{ ours: `${mode}.${direction}Stall`, unit: 'ms', better: 'lower' },
    },
    {
      name: `tcp-failover:${mode}-${direction}-retransmitted`,
      about: 'segments sent again meanwhile',
      ...{ ours: `${mode}.${direction}Retransmitted`, unit: 'segments', better: 'lower' },
    },
  ]);

export const row: Row = {
  name: 'tcp-failover',
  about:
    'one TCP stream of iperf3 through the port’s host path while its VF comes and goes, and through a kill',
  sides: {
    plain,
    inline: switched('inline'),
    ingress: switched('ingress'),
    killed: ({ seconds }) => killed(seconds),
  },
  comparisons: [
    ...lines('inline'),
    ...lines('ingress'),
    ...DIRECTIONS.flatMap((direction): Comparison[] => [
      {
        name: `tcp-failover:killed-${direction}`,
        about: `${WAYS[direction]} after the port’s process was killed; beside before`,
        ...{
          ours: `killed.${direction}After`,
          peer: `killed.${direction}Before`,
          unit: 'Gbit/s',
          better: 'higher',
        },
      },
      {
        name: `tcp-failover:killed-${direction}-stall`,
        about: 'the longest time without a segment meanwhile',
        ...{ ours: `killed.${direction}Stall`, unit: 'ms', better: 'lower' },
      },
    ]),
  ],
  full: { runs: 3, seconds: 20 },
  quick: { runs: 1, seconds: 8 },
  onRequest: true,
};
