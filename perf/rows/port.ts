/**
 * The consolidated port beside one bare path: VF active, tap idle, everything reflected.
 *
 * In a lab the guest's port sends back, with the MAC addresses exchanged, what comes by its VF, from CPU 0. On CPU 1
 * a generator outside does the same (peers/xsk-macswap.c on the far end of the switch): so a fixed number of packets
 * is under way, none is offered that is not taken, and the slower of the two says how fast they go round. Both
 * kernels' parts are alike, since a veth's packets are received, and switched, on the CPU that sends them; the
 * generator is the leaner of the two. All sides have the same generator, and it counts: packets that came back.
 *
 * `ours`: openPort in poll mode. `bare`: the VF's path queue and the handler, no port (bare-paths.ts). `testpmd`:
 * net_failsafe over net_af_xdp on the same VF and a net_tap nobody uses.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort } from '../../src/index.ts';
import { enterNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Lab } from '../../src/lab/host.ts';
import { BURST } from '../../src/memory/layout.ts';
import { BarePaths } from '../bare-paths.ts';
import { peerProgram } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Budget, Row, Sample } from '../row.ts';

/** Packets under way: both ends have bursts to work on, and no ring on the way (256) overflows. */
const PACKETS = 3 * BURST;
const CORE = 0;
const GENERATOR_CORE = 1;
/** For a queue to come to the VF. */
const PATIENCE_MILLIS = 5000;

export const row: Row = {
  name: 'port',
  about:
    'consolidated port reflecting in a lab, VF active, tap idle; a reflecting generator in C on the other core',
  sides: { ours, bare, testpmd },
  comparisons: [
    {
      name: 'port',
      about: 'the port beside one bare AF_XDP path queue with the same handler',
      ...{ ours: 'ours.mpps', peer: 'bare.mpps', unit: 'Mpps', better: 'higher', goal: 0.97 },
    },
    {
      name: 'port:testpmd',
      about: 'the port beside testpmd with net_failsafe over net_af_xdp and net_tap',
      ...{ ours: 'ours.mpps', peer: 'testpmd.mpps', unit: 'Mpps', better: 'higher', goal: 1.1 },
    },
    {
      name: 'port:lost',
      about: 'how often the circulation broke off and had to begin anew',
      ...{ ours: 'ours.restarts', unit: 'times', better: 'lower', goal: 0 },
    },
  ],
  full: { runs: 5, seconds: 1.5 },
  quick: { runs: 2, seconds: 0.8 },
};

/** A lab whose host delivers by the VF. */
async function openLab(): Promise<Lab> {
  const lab = await Lab.create({ queues: 1 });
  try {
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    return lab;
  } catch (error) {
    await lab.close();
    throw error;
  }
}

async function ours({ seconds }: Budget): Promise<Sample> {
  const lab = await openLab();
  try {
    const port = await openPort({
      ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, queues: 1, mode: 'poll', pin: true },
      handler: new URL('../../src/handlers/reflect.js', import.meta.url),
    });
    try {
      const deadline = performance.now() + PATIENCE_MILLIS;
      while (port.stats().queues[0]!.owner !== 'vf') {
        if (performance.now() > deadline) throw new Error('the queue did not come to the VF within 5 s');
        await sleep(5);
      }
      return await generate(lab, seconds);
    } finally {
      await port.close();
    }
  } finally {
    await lab.close();
  }
}

async function bare({ seconds }: Budget): Promise<Sample> {
  const shim = loadShim();
  const lab = await openLab();
  try {
    shim.affinity(CORE);
    enterNamespace(shim, lab.guest);
    const netlink = RtNetlink.open(shim);
    const link = netlink.link(lab.nic.vf!)!;
    netlink.close();
    const path = new BarePaths(shim, [link]);
    try {
      let over = false;
      const generated = generate(lab, seconds).finally(() => {
        over = true;
      });
      await path.run(() => over);
      return await generated;
    } finally {
      path.close();
    }
  } finally {
    await lab.close();
  }
}

async function testpmd({ seconds }: Budget): Promise<Sample> {
  const lab = await openLab();
  try {
    const testpmd = await Testpmd.start({
      vdevs: [`net_failsafe0,dev(net_af_xdp0,iface=${lab.nic.vf}),dev(net_tap0,iface=dtap0)`],
      ...{ forward: 'macswap', burst: BURST, core: CORE, namespace: lab.guest, mbufs: 16_384 },
    });
    try {
      return await generate(lab, seconds);
    } finally {
      await testpmd.stop();
    }
  } finally {
    await lab.close();
  }
}

/** From the outside; it ends when it has counted. */
async function generate(lab: Lab, seconds: number): Promise<Sample> {
  const program = peerProgram('xsk-macswap');
  const args = [GENERATOR_CORE, seconds, BURST, PACKETS, `u${lab.nic.number}`].map(String);
  const child = spawn('ip', ['netns', 'exec', lab.outside, program, ...args]);
  let [out, err] = ['', ''];
  child.stdout.on('data', (data) => {
    out += data;
  });
  child.stderr.on('data', (data) => {
    err += data;
  });
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`the generator failed: ${err.trim()}`);
  const [rate, restarts] = out.split(' ').map(Number) as [number, number];
  return { mpps: rate / 1e6, restarts };
}
