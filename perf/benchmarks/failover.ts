/**
 * How long a failover takes and how many packets it loses: a lab's VF is taken away and given back under load (`failover`), and
 * with more queues (`vf-return`).
 *
 * A switch has four times, all CLOCK_MONOTONIC:
 * - the event: just before the lab calls the kernel (`ip link set vf0 down`, or up for a new VF);
 * - detected: the supervisor has seen that the VF goes. For a new VF the coordinator has opened the sockets and attached XDP,
 *   while packets still use the synthetic path;
 * - switched: the last of the queues transmits on the other path, as its worker acknowledges;
 * - outside: on the host's end, the kernel has the first packet from the guest's other device. While packets are unanswered, the
 *   lab sends one each millisecond: that delay is part of this time only.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Failover } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { Peer } from '../peers/program.ts';
import { openLabPort, ownedBy, plug, QUEUES_UNDER_TRAFFIC, unplug } from '../rigs/lab.ts';
import { type Benchmark, type Budget, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';
import { percentiles } from '../runner/statistics.ts';

const CYCLES = 100;
const QUICK_CYCLES = 30;
const RATE = 20_000;
/** Some hundred packets, so that there is load before and after each switch. */
const PAUSE_MILLIS = 20;

export const failover: Benchmark = {
  name: 'failover',
  about: `the VF taken away and given back ${CYCLES} times under ${RATE} packets a second; queues: ${QUEUES_UNDER_TRAFFIC}`,
  variants: { port: measure },
  comparisons: comparisons(`
    failover              | port.awayP50        | ms      | ≤ 0.5 | away from the VF: from the kernel's event until every queue sends through the synthetic path, median
    failover:away-p99     | port.awayP99        | ms      | ≤ 2 | the same, 99 of 100
    failover:away-outside | port.awayOutsideP50 | ms      |     | from the event to the first packet seen outside, median; traffic comes once a millisecond
    failover:back         | port.backP50        | ms      | ≤ 0.5 | back to the VF: from its sockets being open until every queue sends through it, median
    failover:back-p99     | port.backP99        | ms      | ≤ 2 | the same, 99 of 100
    failover:back-outside | port.backOutsideP50 | ms      |     | from the VF being up to the first packet through it: sockets are opened, packets flow meanwhile
    failover:lost         | port.lost           | packets | ≤ 0 | packets lost, doubled or reordered over all switches
  `),
  // One run: 200 switches are the distribution, and parts of it would have no 99th percentile.
  full: { runs: 1, seconds: 30 },
  quick: { runs: 1, seconds: 5 },
};

async function measure({ quick }: Budget): Promise<Sample> {
  const cycles = quick ? QUICK_CYCLES : CYCLES;
  await using lab = await Lab.create({ queues: QUEUES_UNDER_TRAFFIC });
  const { nic, queues } = lab;
  const port = await openLabPort(lab, 'echo.js', { queues, pin: false });
  const watch = await Peer.start(lab.host, 'path-watch', 's0', 'p0').ready();
  const traffic = await Traffic.start(lab, nic, { rate: RATE });
  for (let cycle = 0; cycle < cycles; cycle++) {
    await plug(lab, port);
    await sleep(PAUSE_MILLIS);
    await unplug(lab, port);
    await sleep(PAUSE_MILLIS);
  }
  const { packets, icmp } = await traffic.stop();
  const changes = pathChanges(await watch.stop());
  const failovers = port.failovers().filter(({ from }) => from !== 'none');
  await port.close();

  const away = failovers.filter(({ from }) => from === 'vf');
  const back = failovers.filter(({ to }) => to === 'vf');
  const eventsOf = (kind: string): number[] =>
    nic.events.filter((event) => event.kind === kind).map(({ atNanos }) => atNanos);
  const [downs, ups] = [eventsOf('down'), eventsOf('up')];
  /** The records of all queues of the switch that followed an event. */
  const following = (all: readonly Failover[], event: number): Failover[] => {
    const found = all.filter(({ detectedNanos }) => detectedNanos >= event).slice(0, queues);
    if (found.length < queues) throw new Error('a queue has no record of a switch');
    return found;
  };
  const detected = (all: readonly Failover[]) => (event: number) => following(all, event)[0]!.detectedNanos;
  const switched = (all: readonly Failover[]) => (event: number) =>
    Math.max(...following(all, event).map(({ endedNanos }) => endedNanos));
  const outside = (path: string) => (event: number) => {
    const change = changes.find((one) => one.path === path && one.atNanos >= event);
    if (change === undefined) throw new Error(`no packet through the path ${path} after an event`);
    return change.atNanos;
  };
  const millis = (from: readonly number[], to: (event: number) => number): number[] =>
    from.map((event) => (to(event) - event) / 1e6);
  const itself = (all: readonly Failover[]): number[] =>
    all.map(({ detectedNanos, endedNanos }) => (endedNanos - detectedNanos) / 1e6);
  return {
    cycles,
    packets: packets.sent,
    lost: [packets, icmp].reduce((sum, one) => sum + one.lost + one.duplicated + one.reordered, 0),
    ...percentiles('away', millis(downs, switched(away))),
    ...percentiles('awayDetect', millis(downs, detected(away))),
    ...percentiles('awaySwitch', itself(away)),
    ...percentiles('awayOutside', millis(downs, outside('synthetic'))),
    ...percentiles('back', millis(ups.map(detected(back)), switched(back))),
    ...percentiles('backDetect', millis(ups, detected(back))),
    ...percentiles('backSwitch', itself(back)),
    ...percentiles('backOutside', millis(ups, outside('vf'))),
    rescued: away.reduce((sum, { rescued }) => sum + rescued, 0),
    drained: away.reduce((sum, { drained }) => sum + drained, 0),
  };
}

/** When the guest's packets changed their path, as peers/path-watch.c prints it. @throws Error when it has missed packets */
function pathChanges(printed: string): { path: string; atNanos: number }[] {
  const [, ...lines] = printed.trim().split('\n');
  const last = lines.pop();
  if (last !== 'dropped 0') throw new Error(`path-watch missed packets: ${last}`);
  return lines.map((line) => {
    const [path, nanos] = line.split(' ');
    return { path: path!, atNanos: Number(nanos) };
  });
}

const returning =
  (queues: number): Variant =>
  async () => {
    await using lab = await Lab.create({ queues });
    const port = await openLabPort(lab, 'echo.js', { queues, pin: false, mode: 'interrupt' });
    const began = performance.now();
    await lab.nic.plug();
    await ownedBy(port, 'vf');
    const millis = performance.now() - began;
    await unplug(lab, port);
    await port.close();
    return { millis };
  };

export const vfReturn: Benchmark = {
  name: 'vf-return',
  about: 'from a VF being plugged in until all queues of the port send through it, in a lab without traffic',
  variants: { one: returning(1), four: returning(4), sixteen: returning(16) },
  comparisons: comparisons(`
    vf-return            | one.millis                  | ms |  | one queue
    vf-return:four       | four.millis / one.millis    | ms |  | four queues; peer: one queue
    vf-return:sixteen    | sixteen.millis / one.millis | ms |  | sixteen queues; peer: one queue
  `),
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 1 },
  onRequest: true,
};
