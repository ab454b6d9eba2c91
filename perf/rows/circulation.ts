/** What the rows `ring` and `failsafe-tax` share: packets that circulate in memory, and who moves them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Dispatch } from '../../src/datapath/dispatch.ts';
import { Burst } from '../../src/handler/burst.ts';
import { loadHandler } from '../../src/handler/load-handler.ts';
import { openPort } from '../../src/index.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { CopySender } from '../../src/memory/copies.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { BURST, Path, TURN } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { LoopDevice, LoopQueue } from '../../src/paths/memory/loop.ts';
import { Testpmd } from '../peers/testpmd.ts';
import type { Sample } from '../row.ts';

/** Packets that circulate, on either side: more than a burst, and their headers fit the first-level cache. */
export const CIRCULATING = 256;
/** Bytes of each: testpmd's own. */
const BYTES = 60;
/** Bursts between looks at the clock. */
const PORTION = 20_000;

/** A burst size at which testpmd is measured, and the bursts of it that circulate. */
export type BurstSize = 16 | 32 | 64 | 128;
export const BURST_SIZES: readonly BurstSize[] = [16, 32, 64, 128];

/** testpmd's macswap over one device made of rings. */
export async function testpmdMacswap(vdev: string, burst: BurstSize, seconds: number): Promise<Sample> {
  const testpmd = await Testpmd.start({
    ...{ vdevs: [vdev], forward: 'macswap', burst, txFirst: CIRCULATING / burst },
  });
  try {
    await sleep(300);
    return { mpps: (await testpmd.packetsPerSecond(seconds)) / 1e6 };
  } finally {
    await testpmd.stop();
  }
}

/**
 * The bare loop: receive, handle, carry out, release, publish, or a turn and publish where the handler has one. No
 * worker, no port.
 */
export async function bareLoop(language: 'js' | 'wasm', seconds: number): Promise<Sample> {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 4096, ringEntries: 2048 },
  });
  new LoopDevice(memory, 0, Path.VF, 'vf').open();
  const pool = new FramePool(memory, 0);
  const queue = new LoopQueue(memory, pool, { port: 0, queue: 0, path: Path.VF });
  pool.recover([queue]);
  const burst = new Burst(memory, 0);
  const url = new URL(`../../src/handlers/reflect.${language}`, import.meta.url).href;
  setMac(memory, 0, '02:00:00:00:00:01');
  const where = { queue: 0, queues: 1, memory, burst };
  const { handle, turn } = await loadHandler(url, {}, where);
  const failed = (error: unknown): never => {
    throw error;
  };
  const delivery = new CopySender(
    memory,
    memory.layout.delivery(0, 0),
    memory.layout.deliveryEntries,
    memory,
  );
  const dispatch = new Dispatch({
    ...{ shim: loadShim(), memory, pool, burst, handler: handle, turn, failed, port: 0, queue: 0, delivery },
    exits: { ports: [], relays: [] },
  });
  dispatch.out = queue;
  for (let i = 0; i < CIRCULATING; i++) {
    const frame = dispatch.frames.take();
    memory.bytes.fill(i, frame, frame + BYTES);
    dispatch.frames.post(frame, BYTES);
  }
  queue.tx.flush();
  const run = (bursts: number): number => {
    let packets = 0;
    for (let n = 0; n < bursts; n++) {
      if (queue.tx.room(BURST) < BURST) throw new Error('the ring is full');
      if (turn === undefined) {
        const count = queue.rx.receiveBurst(burst.at, BURST);
        dispatch.run(count, Path.VF);
        queue.rx.release();
        packets += count;
      } else packets += dispatch.inPlace.run(queue, queue.turn, TURN);
      queue.tx.flush();
    }
    return packets;
  };
  for (let warm = 0; warm < 20; warm++) run(PORTION); // V8 has compiled everything after this
  let packets = 0;
  let nanos = 0;
  const began = process.hrtime.bigint();
  while (nanos < seconds * 1e9) {
    packets += run(PORTION);
    nanos = Number(process.hrtime.bigint() - began);
  }
  if (queue.ledger().rx !== CIRCULATING) throw new Error(`${queue.ledger().rx} packets circulate at the end`);
  return { mpps: (packets * 1e3) / nanos, ns: nanos / packets };
}

/** The whole port: a worker, two paths attached and polled, of which the VF carries all, statistics kept. */
export async function wholePort(seconds: number): Promise<Sample> {
  const port = await openPort({
    ...{ network: 'loop', queues: 1, mode: 'poll', pin: true },
    handler: new URL('../wasm/circulate.wasm', import.meta.url),
    handlerOptions: { packets: CIRCULATING, bytes: BYTES },
  });
  try {
    port.plug('vf');
    await sleep(1000);
    const [before, began] = [port.stats(), process.hrtime.bigint()];
    await sleep(seconds * 1000);
    const [after, ended] = [port.stats(), process.hrtime.bigint()];
    const packets = after.paths.vf.rxPackets - before.paths.vf.rxPackets;
    if (after.paths.synthetic.rxPackets !== before.paths.synthetic.rxPackets) {
      throw new Error('the synthetic path was not idle');
    }
    const [ledger] = await port.audit();
    if (ledger!.rx !== CIRCULATING || ledger!.accounted !== ledger!.total) {
      throw new Error(`packets or frames were lost: ${JSON.stringify(ledger)}`);
    }
    return { mpps: (packets * 1e3) / Number(ended - began) };
  } finally {
    await port.close();
  }
}
