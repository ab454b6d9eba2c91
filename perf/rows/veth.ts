/**
 * MAC addresses exchanged between the two ends of a veth pair, over AF_XDP in copy mode, packets circulating.
 *
 * Everything runs on one CPU, the kernel's part of it too: a veth's packets are received in the context of whoever
 * sends them. No generator: what one end sends is what the other receives. So the figure is what a packet
 * costs to receive, look at, send, and take back, and nearly all of it is the kernel's.
 *
 * `ours`: two path queues as a worker attaches them, and the reflect handler; no port around them. `c`: the same in
 * C over the same rings, same burst, same budgets (peers/xsk-macswap.c). `testpmd`, `testpmdSpinning`: DPDK's
 * net_af_xdp on both ends, with its defaults, and without its busy polling, which finds nothing to poll in copy mode.
 */
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { loadShim } from '../../src/kernel/shim.ts';
import { BURST } from '../../src/memory/layout.ts';
import { BarePaths } from '../bare-paths.ts';
import { peerProgram } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Budget, Row, Sample } from '../row.ts';
import { VethPair } from '../veth-pair.ts';

/** Packets that each end sends at the start: a burst is on its way in each direction. */
const PACKETS = BURST;
const core = cpus().length - 1;

export const row: Row = {
  name: 'veth',
  about:
    'macswap between the two ends of a veth pair, AF_XDP copy mode, packets circulating; one core, no generator',
  sides: {
    ours,
    c: circulateInC,
    testpmd: (budget) => circulateInTestpmd(budget, ''),
    testpmdSpinning: (budget) => circulateInTestpmd(budget, ',busy_budget=0'),
  },
  comparisons: [
    {
      name: 'veth',
      about: 'two path queues and the reflect handler, beside testpmd with two net_af_xdp at its best',
      ...{ ours: 'ours.mpps', peer: 'testpmdSpinning.mpps', unit: 'Mpps', better: 'higher', goal: 1 },
    },
    {
      name: 'veth:c',
      about: 'the same beside a loop in C over the same rings',
      ...{ ours: 'ours.mpps', peer: 'c.mpps', unit: 'Mpps', better: 'higher', goal: 0.97 },
    },
    {
      name: 'veth:testpmd-defaults',
      about: 'the same beside testpmd with two net_af_xdp as they are',
      ...{ ours: 'ours.mpps', peer: 'testpmd.mpps', unit: 'Mpps', better: 'higher' },
    },
  ],
  full: { runs: 5, seconds: 1.5 },
  quick: { runs: 1, seconds: 0.8 },
};

async function ours({ seconds }: Budget): Promise<Sample> {
  const shim = loadShim();
  shim.affinity(core);
  const pair = VethPair.create(shim);
  const paths = new BarePaths(shim, pair.links(shim));
  try {
    paths.inject(PACKETS);
    await paths.run((millis) => millis > seconds * 250); // V8 has compiled everything after this
    return { mpps: (await paths.run((millis) => millis > seconds * 1000)) / 1e6 };
  } finally {
    paths.close();
    pair.close();
  }
}

function circulateInC({ seconds }: Budget): Sample {
  const program = peerProgram('xsk-macswap');
  const pair = VethPair.create(loadShim());
  try {
    const args = [core, seconds, BURST, PACKETS, ...pair.devices].map(String);
    const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr.trim());
    return { mpps: Number(stdout.split(' ')[0]) / 1e6 };
  } finally {
    pair.close();
  }
}

/** Packets that both ports received: each packet is received by either in turn. */
async function circulateInTestpmd({ seconds }: Budget, options: string): Promise<Sample> {
  const pair = VethPair.create(loadShim());
  try {
    const testpmd = await Testpmd.start({
      vdevs: pair.devices.map((device, i) => `net_af_xdp${i},iface=${device}${options}`),
      ...{ forward: 'macswap', burst: BURST, txFirst: PACKETS / BURST, core },
      ...{ namespace: pair.namespace, mbufs: 16_384, extra: ['--port-topology=loop'] },
    });
    try {
      await testpmd.packetsPerSecond(seconds / 4);
      return { mpps: (2 * (await testpmd.packetsPerSecond(seconds))) / 1e6 };
    } finally {
      await testpmd.stop();
    }
  } finally {
    pair.close();
  }
}
