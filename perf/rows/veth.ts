/**
 * MAC addresses exchanged between the two ends of a veth pair, over AF_XDP in copy mode, packets circulating.
 *
 * Everything runs on one CPU, the kernel's part of it too: a veth's packets are received in the context of whoever
 * sends them. No generator: what one end sends is what the other receives. So the figure is what a packet
 * costs to receive, look at, send, and take back, and nearly all of it is the kernel's.
 *
 * `ours`: two path queues as a worker attaches them, and the reflect handler; no port around them (bare-paths.ts).
 * `c`: the same in C over the same rings, same burst, same budgets, same depth (peers/xsk-macswap.c).
 * `testpmd`: DPDK's net_af_xdp on both ends, at the burst that is its best here: of 16, 32, 64 and 128 packets it
 * moved 0.85, 0.88, 0.88 and 0.89 Mpps, and 0.84 to 0.88 with busy_budget=0.
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
const TESTPMD_BURST = 128;
const core = cpus().length - 1;

export const row: Row = {
  name: 'veth',
  about:
    'macswap between the two ends of a veth pair, AF_XDP copy mode, packets circulating; one core, no generator',
  sides: { ours, c: circulateInC, testpmd: circulateInTestpmd },
  comparisons: [
    {
      name: 'veth',
      about: 'two path queues and the reflect handler, beside testpmd with two net_af_xdp at its best',
      ...{ ours: 'ours.mpps', peer: 'testpmd.mpps', unit: 'Mpps', better: 'higher', goal: 1 },
    },
    {
      name: 'veth:c',
      about: 'the same beside a loop in C over the same rings',
      ...{ ours: 'ours.mpps', peer: 'c.mpps', unit: 'Mpps', better: 'higher', goal: 0.97 },
    },
  ],
  full: { runs: 5, seconds: 1.5 },
  quick: { runs: 2, seconds: 0.8 },
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
async function circulateInTestpmd({ seconds }: Budget): Promise<Sample> {
  const pair = VethPair.create(loadShim());
  try {
    const testpmd = await Testpmd.start({
      vdevs: pair.devices.map((device, i) => `net_af_xdp${i},iface=${device}`),
      ...{ forward: 'macswap', burst: TESTPMD_BURST, txFirst: 1, core },
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
