/**
 * The consolidated port beside one bare path: VF active, tap idle, everything reflected.
 *
 * In a lab the guest's port sends back, with the MAC addresses exchanged, what comes by its VF, from CPU 0; there the
 * kernel's part of sending happens too. On CPU 1 the host puts frames into the VF as fast as it goes
 * (peers/xdp-generator.c): several times what anybody takes, so that it never is what limits. Counted is what leaves the
 * VF. The host then throws it away: its uplink is down, as its further work would be done on CPU 0 as well.
 *
 * `ours`: openPort in poll mode. `bare`: the VF's path queue and the handler, no port (bare-paths.ts). `testpmd`:
 * net_failsafe over net_af_xdp on the same VF and a net_tap nobody uses.
 */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPort } from '../../src/index.ts';
import { enterNamespace, inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Lab } from '../../src/lab/host.ts';
import { ip } from '../../src/lab/namespaces.ts';
import { BURST } from '../../src/memory/layout.ts';
import { BarePaths } from '../bare-paths.ts';
import { peerProgram } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Budget, Row, Sample } from '../row.ts';

const CORE = 0;
const GENERATOR_CORE = 1;
/** Until V8 has compiled everything. */
const WARM_UP_MILLIS = 300;
/** For a queue to come to the VF. */
const PATIENCE_MILLIS = 5000;

export const row: Row = {
  name: 'port',
  about:
    'consolidated port reflecting in a lab, VF active, tap idle; the generator, on the other core, offers more than is taken',
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
      return await reflected(lab, seconds);
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
      const generated = reflected(lab, seconds).finally(() => {
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
      return await reflected(lab, seconds);
    } finally {
      await testpmd.stop();
    }
  } finally {
    await lab.close();
  }
}

/** Starts the generator, and counts what leaves the guest once everybody is warm. */
async function reflected(lab: Lab, seconds: number): Promise<Sample> {
  const shim = loadShim();
  const far = `v${lab.nic.number}`;
  ip([`link set p${lab.nic.number} down`], lab.host);
  const netlink = inNamespace(shim, lab.host, () => RtNetlink.open(shim));
  const longest = Math.ceil(2 * seconds + 5);
  const args = [GENERATOR_CORE, longest, far].map(String);
  const generator = spawn('ip', ['netns', 'exec', lab.host, peerProgram('xdp-generator'), ...args]);
  let err = '';
  generator.stderr.on('data', (data) => {
    err += data;
  });
  const ended = new Promise((resolve) => generator.once('close', resolve));
  const arrived = (): number => netlink.link(far)!.statistics!.rxPackets;
  try {
    await sleep(WARM_UP_MILLIS + seconds * 250);
    const before = arrived();
    const began = performance.now();
    await sleep(seconds * 1000);
    const packets = arrived() - before;
    const micros = (performance.now() - began) * 1000;
    if (generator.exitCode !== null) throw new Error(`the generator ended: ${err.trim()}`);
    return { mpps: packets / micros };
  } finally {
    generator.kill();
    await ended;
    netlink.close();
  }
}
