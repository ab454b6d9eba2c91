/**
 * TCP streams of iperf3 between the guest of a lab and the outside host.
 *
 * `tcp`: through the port's host path, each way. The peers are the same stream without a port, and the same stream through testpmd.
 * `tcp-failover`: the stream while the VF comes and goes, and while the port's process is killed. After that the kernel's own
 * traffic must flow as before the port was opened.
 *
 * The guest's kernel always has the address 10.77.0.2. It is on the NetVSC stand-in, without a port and with one, whose host path
 * carries the packets. With DPDK it moves to a tap of testpmd, which forwards between that tap and an AF_XDP socket on the VF: a
 * DPDK application gives the kernel a network in this way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../../src/lab/host.ts';
import { Testpmd } from '../peers/testpmd.ts';
import { type Stream, stream } from '../rigs/iperf.ts';
import { moveAddress, type PathName, portOptions } from '../rigs/lab.ts';
import { PortProcess } from '../rigs/port-process.ts';
import { type Benchmark, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

const DIRECTIONS = ['in', 'out'] as const;
type Direction = (typeof DIRECTIONS)[number];
/** The text of a mode is its goal. */
const REPEATED = {
  mode: { inline: '≥ 0.6, best ≥ 0.8', ingress: '≥ 0.5' },
  way: { in: 'received', out: 'sent' },
};
type Mode = 'ingress' | 'inline';

const QUEUES = 2;
/** testpmd's tap in the guest. */
const TAP = 'dpdk0';

/** A stream one way. `onFlow` is called when bytes flow. */
function streamThrough(
  { guest, outside, nic }: Lab,
  direction: Direction,
  seconds: number,
  onFlow?: () => void,
): Promise<Stream> {
  const ways = {
    in: { from: outside, to: guest, address: nic.guestAddress },
    out: { from: guest, to: outside, address: nic.outsideAddress },
  };
  return stream({ ...ways[direction], seconds, onFlow });
}

/** Gbit/s each way, in half the time each. */
async function bothWays(lab: Lab, seconds: number): Promise<Sample> {
  const one = async (direction: Direction): Promise<number> =>
    (await streamThrough(lab, direction, seconds / 2)).gigabits;
  return { in: await one('in'), out: await one('out') };
}

/** A port in another process, on that path when `work` begins. */
async function withPort<T>(
  mode: Mode,
  path: PathName,
  work: (lab: Lab, port: PortProcess) => Promise<T>,
): Promise<T> {
  await using lab = await Lab.create({ queues: QUEUES });
  const port = new PortProcess(portOptions(lab, 'host.js', { queues: QUEUES, host: mode, pin: false }));
  try {
    await port.ownedBy('synthetic');
    if (path === 'vf') await moveToVf(lab, port);
    return await work(lab, port);
  } finally {
    await port.close();
  }
}

/** Plugs the VF and has the host deliver through it. */
async function moveToVf(lab: Lab, port: PortProcess): Promise<void> {
  await lab.nic.plug();
  await port.ownedBy('vf');
  await lab.nic.moveDataPath('vf');
}

/** The kernel alone, on the NetVSC stand-in. */
const plain =
  (share: number): Variant =>
  async ({ seconds }) => {
    await using lab = await Lab.create({ queues: QUEUES });
    return await bothWays(lab, seconds * share);
  };

const through =
  (mode: Mode, path: PathName): Variant =>
  ({ seconds }) =>
    withPort(mode, path, (lab) => bothWays(lab, seconds));

const testpmd: Variant = async ({ seconds }) => {
  await using lab = await Lab.create({ queues: 1 });
  const { nic, guest } = lab;
  await nic.plug();
  const vdevs = [`net_af_xdp0,iface=${nic.vf}`, `net_tap0,iface=${TAP},mac=${nic.mac}`];
  return await Testpmd.around({ vdevs, forward: 'io', namespace: guest }, async () => {
    moveAddress(lab, TAP);
    await nic.moveDataPath('vf');
    return await bothWays(lab, seconds);
  });
};

export const tcp: Benchmark = {
  name: 'tcp',
  about:
    'one TCP stream of iperf3 between a lab’s guest and the outside, through the port’s host path; iperf3 and the lab’s switch share the cores with it',
  variants: {
    plain: plain(1),
    inlineVf: through('inline', 'vf'),
    testpmd,
    ingressVf: through('ingress', 'vf'),
    inlineSynthetic: through('inline', 'synthetic'),
    ingressSynthetic: through('ingress', 'synthetic'),
  },
  comparisons: comparisons(
    `
    tcp:{mode}-vf-{way}         | {mode}Vf.{way} / plain.{way}        | Gbit/s | {MODE} | {WAY}, {mode} through the VF; peer: no port
    tcp:{mode}-vf-{way}/testpmd | {mode}Vf.{way} / testpmd.{way}      | Gbit/s | ≥ 1.5 | {WAY}, {mode} through the VF; peer: testpmd, VF and tap
    tcp:{mode}-synthetic-{way}  | {mode}Synthetic.{way} / plain.{way} | Gbit/s | {MODE} | {WAY}, {mode} through the NetVSC; peer: no port
  `,
    REPEATED,
  ),
  full: { runs: 3, seconds: 2 },
  quick: { runs: 1, seconds: 2 },
};

const CYCLES = 5;
const SURPRISE = 2;
/** Tenths of a second before and after the kill that are left out. */
const AROUND_KILL = 5;

/** The VF plugged and unplugged five times in the time of a stream, evenly, the third time by surprise. */
async function comesAndGoes(lab: Lab, port: PortProcess, seconds: number): Promise<void> {
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
    await port.ownedBy('synthetic');
  }
}

/** A stream through a port, and what happens to the port meanwhile. */
function disturbed(
  direction: Direction,
  [mode, path]: readonly [Mode, PathName],
  seconds: number,
  disturb: (lab: Lab, port: PortProcess, seconds: number) => Promise<void>,
): Promise<Stream> {
  return withPort(mode, path, async (lab, port) => {
    let disturbing: Promise<void> | undefined;
    const result = await streamThrough(lab, direction, seconds, () => {
      disturbing = disturb(lab, port, seconds);
      disturbing.catch(() => {}); // it is awaited below, when the stream is over
    });
    await disturbing;
    return result;
  });
}

const switched =
  (mode: Mode): Variant =>
  async ({ seconds }) => {
    const sample: Record<string, number> = {};
    for (const direction of DIRECTIONS) {
      const result = await disturbed(direction, [mode, 'synthetic'], seconds / 2, comesAndGoes);
      sample[direction] = result.gigabits;
      sample[`${direction}Stall`] = result.stallMillis;
      sample[`${direction}Retransmitted`] = result.retransmissions;
    }
    return sample;
  };

const mean = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0) / numbers.length;

const killed: Variant = async ({ seconds }) => {
  const sample: Record<string, number> = {};
  for (const direction of DIRECTIONS) {
    const kill = async (_: Lab, port: PortProcess, length: number): Promise<void> => {
      await sleep(length * 500);
      await port.kill();
    };
    const { tenths, stallMillis } = await disturbed(direction, ['inline', 'vf'], seconds / 2, kill);
    const middle = (seconds / 2) * 5;
    sample[`${direction}Before`] = mean(tenths.slice(0, middle - AROUND_KILL));
    sample[`${direction}After`] = mean(tenths.slice(middle + AROUND_KILL));
    sample[`${direction}Stall`] = stallMillis;
  }
  return sample;
};

export const tcpFailover: Benchmark = {
  name: 'tcp-failover',
  about:
    'one TCP stream of iperf3 through the port’s host path while its VF comes and goes, and through a kill',
  variants: { plain: plain(0.25), inline: switched('inline'), ingress: switched('ingress'), killed },
  comparisons: comparisons(
    `
    tcp-failover:{mode}-{way}               | {mode}.{way} / plain.{way}              | Gbit/s   | | {WAY}, {mode}, the VF plugged and unplugged five times, once by surprise; peer: no port
    tcp-failover:{mode}-{way}-stall         | {mode}.{way}Stall                      | ms       | | the longest time without a segment meanwhile
    tcp-failover:{mode}-{way}-retransmitted | {mode}.{way}Retransmitted              | segments | | segments sent again meanwhile
    tcp-failover:killed-{way}               | killed.{way}After / killed.{way}Before | Gbit/s   | | {WAY} after the port’s process was killed; peer: before
    tcp-failover:killed-{way}-stall         | killed.{way}Stall                      | ms       | | the longest time without a segment meanwhile
  `,
    REPEATED,
  ),
  full: { runs: 3, seconds: 20 },
  quick: { runs: 1, seconds: 8 },
  onRequest: true,
};
