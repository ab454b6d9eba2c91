/**
 * How long a failover takes and what it loses: the VF of a lab taken away and given back under load.
 *
 * Four readings of a clock make a switch, all CLOCK_MONOTONIC:
 * - the event: just before the lab calls the kernel (`ip link set vf0 down`, or up for a VF that has come);
 * - detected: the coordinator knows, and for a VF that has come has opened its sockets and attached XDP, while
 *   packets go on by the synthetic path;
 * - switched: the last of the queues transmits on the other path, by its worker's word;
 * - outside: the kernel has the first packet from the guest's other device, on the host's side of it. The lab's
 *   traffic comes once in a millisecond when nothing is answered, which is in this figure and not in the others.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Failover, openPort } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { until } from '../../src/lab/patience.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { QUEUES_BESIDE_TRAFFIC } from '../echo-lab.ts';
import { PathWatch } from '../peers/path-watch.ts';
import type { Budget, Row, Sample } from '../row.ts';
import { percentiles } from '../statistics.ts';

const CYCLES = 100;
const QUICK_CYCLES = 30;
const RATE = 20_000;
/** Some hundred packets, so that each switch has load before and behind it. */
const PAUSE_MILLIS = 20;
/** For one switch. */
const PATIENCE_MILLIS = 10_000;

export const row: Row = {
  name: 'failover',
  about: `the VF taken away and given back ${CYCLES} times under ${RATE} packets a second; queues: ${QUEUES_BESIDE_TRAFFIC}`,
  sides: { port: measure },
  comparisons: [
    {
      name: 'failover',
      about:
        "away from the VF: from the kernel's event until every queue sends by the synthetic path, median",
      ...{ ours: 'port.awayP50', unit: 'ms', better: 'lower', goal: 1 },
    },
    {
      name: 'failover:away-p99',
      about: 'the same, 99 of 100',
      ...{ ours: 'port.awayP99', unit: 'ms', better: 'lower', goal: 5 },
    },
    {
      name: 'failover:away-outside',
      about: 'from the event to the first packet seen outside, median; traffic comes once a millisecond',
      ...{ ours: 'port.awayOutsideP50', unit: 'ms', better: 'lower' },
    },
    {
      name: 'failover:back',
      about: 'back to the VF: from its sockets being open until every queue sends by it, median',
      ...{ ours: 'port.backP50', unit: 'ms', better: 'lower', goal: 1 },
    },
    {
      name: 'failover:back-p99',
      about: 'the same, 99 of 100',
      ...{ ours: 'port.backP99', unit: 'ms', better: 'lower', goal: 5 },
    },
    {
      name: 'failover:back-outside',
      about:
        'from the VF coming up to the first packet by it: sockets are opened, packets flow all the while',
      ...{ ours: 'port.backOutsideP50', unit: 'ms', better: 'lower' },
    },
    {
      name: 'failover:lost',
      about: 'packets lost, doubled or reordered over all switches',
      ...{ ours: 'port.lost', unit: 'packets', better: 'lower', goal: 0 },
    },
  ],
  // One run: 200 switches are the distribution, and parts of it would have no 99th percentile.
  full: { runs: 1, seconds: 30 },
  quick: { runs: 1, seconds: 5 },
};

async function measure({ quick }: Budget): Promise<Sample> {
  const cycles = quick ? QUICK_CYCLES : CYCLES;
  await using lab = await Lab.create({ queues: QUEUES_BESIDE_TRAFFIC });
  const { nic } = lab;
  const port = await openPort({
    ...{ netns: lab.guest, netvsc: nic.netvsc, force: true, queues: lab.queues },
    handler: new URL('../../src/handlers/echo.js', import.meta.url),
    handlerOptions: { address: nic.guestAddress },
  });
  const watch = await PathWatch.start(lab);
  const traffic = await Traffic.start(lab, nic, { rate: RATE });
  const owned = (by: string) => (): boolean => port.stats().queues.every(({ owner }) => owner === by);
  for (let cycle = 0; cycle < cycles; cycle++) {
    await nic.plug();
    await until('switch to the VF', PATIENCE_MILLIS, owned('vf'));
    await nic.moveDataPath('vf');
    await sleep(PAUSE_MILLIS);
    await nic.unplug();
    await until('switch to the synthetic path', PATIENCE_MILLIS, owned('synthetic'));
    await sleep(PAUSE_MILLIS);
  }
  const { packets, icmp } = await traffic.stop();
  const changes = await watch.stop();
  const failovers = port.failovers().filter(({ from }) => from !== 'none');
  await port.close();

  const acts = (kind: string): number[] =>
    nic.events.filter((event) => event.kind === kind).map(({ atNanos }) => atNanos);
  const [downs, ups] = [acts('down'), acts('up')];
  const away = failovers.filter(({ from }) => from === 'vf');
  const back = failovers.filter(({ to }) => to === 'vf');
  const { queues } = lab;
  /** The records of all queues for the switch that followed an event. */
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
    if (change === undefined) throw new Error(`no packet by the path ${path} after an event`);
    return change.atNanos;
  };
  const millis = (from: readonly number[], to: (event: number) => number): number[] =>
    from.map((event) => (to(event) - event) / 1e6);
  const itself = (all: readonly Failover[]): number[] =>
    all.map(({ detectedNanos, endedNanos }) => (endedNanos - detectedNanos) / 1e6);
  const opened = ups.map(detected(back));
  return {
    cycles,
    packets: packets.sent,
    lost: [packets, icmp].reduce((sum, one) => sum + one.lost + one.duplicated + one.reordered, 0),
    ...percentiles('away', millis(downs, switched(away))),
    ...percentiles('awayDetect', millis(downs, detected(away))),
    ...percentiles('awaySwitch', itself(away)),
    ...percentiles('awayOutside', millis(downs, outside('synthetic'))),
    ...percentiles('back', millis(opened, switched(back))),
    ...percentiles('backDetect', millis(ups, detected(back))),
    ...percentiles('backSwitch', itself(back)),
    ...percentiles('backOutside', millis(ups, outside('vf'))),
    rescued: away.reduce((sum, { rescued }) => sum + rescued, 0),
    drained: away.reduce((sum, { drained }) => sum + drained, 0),
  };
}
