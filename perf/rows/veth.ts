/**
 * MAC addresses exchanged between the two ends of a veth pair, over AF_XDP in copy mode, packets circulating.
 *
 * Everything runs on one CPU, the kernel's part of it too: a veth's packets are received in the context of whoever
 * sends them. No generator: what one end sends is what the other receives. So the figure is what a packet
 * costs to receive, look at, send, and take back, and nearly all of it is the kernel's.
 *
 * `ours`: two path queues as a worker attaches them, and the reflect handler; no port around them. `c`: the same in
 * C over the same rings, same burst, same budgets (peers/xsk-macswap.c). `testpmd…`: DPDK's net_af_xdp on both ends,
 * with its defaults and, as that is what it is best at here, without its busy polling, which finds nothing to poll
 * in copy mode (net/xdp/xsk.c marks a socket's NAPI for zero-copy alone, since Linux 6.14).
 */
import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { Burst } from '../../src/datapath/burst.ts';
import { TX } from '../../src/datapath/verdict.ts';
import reflect from '../../src/handlers/reflect.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { BURST, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { attach } from '../../src/paths/attach.ts';
import type { PathQueue } from '../../src/paths/path.ts';
import { peerProgram } from '../peers/program.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Budget, Row, Sample } from '../row.ts';
import { VethPair } from '../veth-pair.ts';

/** Packets sent by each end at the start: a burst is on its way in each direction. */
const PACKETS = BURST;
const BYTES = 60;
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

function ours({ seconds }: Budget): Sample {
  const shim = loadShim();
  shim.affinity(core);
  const pair = VethPair.create(shim);
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 8192, ringEntries: 2048 },
  });
  const ends = [Path.SYNTHETIC, Path.VF] as const;
  const devices = pair
    .links(shim)
    .map(
      (link, i) =>
        new AfXdpDevice(shim, memory, 0, ends[i]!, link, { rss: 'device', rssKey: new Uint8Array(40) }),
    );
  for (const device of devices) device.open();
  const pool = new FramePool(memory, 0);
  pool.recover([]);
  const queues = ends.map((path) => attach(shim, memory, pool, { port: 0, queue: 0, path })!);
  for (const queue of queues) queue.refill();
  for (const device of devices) device.arm();
  try {
    for (const queue of queues) inject(memory, pool, queue);
    const burst = new Burst(memory, 0);
    const run = (millis: number): number => {
      const began = performance.now();
      let handled = 0;
      let now = began;
      while (now - began < millis) {
        for (let rounds = 0; rounds < 64; rounds++)
          for (const queue of queues) handled += round(queue, burst);
        now = performance.now();
      }
      return handled / (now - began) / 1000;
    };
    run(seconds * 250);
    return { mpps: run(seconds * 1000) };
  } finally {
    for (const device of devices) device.close();
    pair.close();
  }
}

/** What a worker does in a round for a path that carries the traffic. */
function round(queue: PathQueue, burst: Burst): number {
  if (queue.room(BURST) < BURST) return 0;
  const count = queue.receive(burst.offset, burst.bytes, BURST);
  if (count > 0) {
    burst.begin(count);
    reflect(burst);
    for (let i = 0; i < count; i++)
      if (burst.verdict[i] === TX) queue.push(burst.offset[i]!, burst.bytes[i]!);
    queue.release();
  }
  queue.complete();
  queue.refill();
  const result = queue.flush();
  if (result < 0) throw new Error(`the kernel refuses to send: errno ${-result}`);
  return count;
}

function inject(memory: Memory, pool: FramePool, queue: PathQueue): void {
  const { bytes, view, layout } = memory;
  for (let i = 0; i < PACKETS; i++) {
    const address = pool.peek(0);
    const at = layout.frames + address + 256;
    bytes.fill(0, at, at + BYTES);
    bytes.set([2, 0x15, 0x5d, 0x77, 0, 2, 2, 0x15, 0x5d, 0x77, 0, 1], at);
    view.setUint16(at + 12, 0x88b5);
    queue.push(at, BYTES);
    pool.remove(1);
  }
  queue.flush();
}

function circulateInC({ seconds }: Budget): Sample {
  const pair = VethPair.create(loadShim());
  try {
    const args = [core, seconds, BURST, PACKETS, 0, ...pair.devices].map(String);
    const { status, stdout, stderr } = spawnSync(peerProgram('xsk-macswap'), args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr.trim());
    return { mpps: Number(stdout) / 1e6 };
  } finally {
    pair.close();
  }
}

/** Packets that both ports received: each packet is received by either in turn. */
async function circulateInTestpmd({ seconds }: Budget, options: string): Promise<Sample> {
  const pair = VethPair.create(loadShim());
  const testpmd = await Testpmd.start({
    vdevs: pair.devices.map((device, i) => `net_af_xdp${i},iface=${device}${options}`),
    ...{
      forward: 'macswap',
      burst: BURST,
      txFirst: PACKETS / BURST,
      namespace: pair.namespace,
      mbufs: 16_384,
      core,
    },
    extra: ['--port-topology=loop'],
  });
  try {
    await testpmd.packetsPerSecond(seconds / 4);
    return { mpps: (2 * (await testpmd.packetsPerSecond(seconds))) / 1e6 };
  } finally {
    await testpmd.stop();
    pair.close();
  }
}
