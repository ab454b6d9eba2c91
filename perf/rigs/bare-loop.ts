/** The datapath's own loop on the calling thread, over a ring in memory in which packets circulate: no worker, no port. */
import { Dispatch } from '../../src/datapath/dispatch.ts';
import { Burst } from '../../src/handler/burst.ts';
import { loadHandler } from '../../src/handler/load-handler.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { DeliverySender } from '../../src/memory/delivery-ring.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { BURST, IN_PLACE_BURST, Path } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { LoopDevice, LoopQueue } from '../../src/paths/memory/loop.ts';

/** Packets that circulate: more than a burst, and their headers fit the first-level cache. */
export const CIRCULATING = 256;
/** Bytes of each: testpmd's own. */
export const BYTES = 60;
/** Bursts of one call. */
const PORTION = 20_000;

/**
 * Receive, handle, carry out, release, publish; or an in-place call and publish where the handler has one.
 *
 * @param language of the built-in handler `reflect`
 * @returns does this for some milliseconds, and returns how many packets it has handled. @throws Error if one is lost
 */
export async function bareLoop(language: 'js' | 'wasm'): Promise<() => number> {
  const geometry = { pageSize: 4096, ports: 1, queues: 1, frameSize: 2048 };
  const memory = Memory.create({ ...geometry, framesPerWorker: 4096, ringEntries: 2048 });
  new LoopDevice(memory, 0, Path.VF, 'vf').open();
  const pool = new FramePool(memory, 0);
  const queue = new LoopQueue(memory, pool, { port: 0, queue: 0, path: Path.VF });
  pool.owners.recover([queue]);
  const burst = new Burst(memory, 0);
  setMac(memory, 0, '02:00:00:00:00:01');
  const url = new URL(`../../src/handlers/reflect.${language}`, import.meta.url).href;
  const { handle, inPlace } = await loadHandler(url, {}, { queue: 0, queues: 1, memory, burst });
  const failed = (error: unknown): never => {
    throw error;
  };
  const delivery = new DeliverySender(memory, pool, burst, 0, 0);
  const forwardTable = { ports: [], relays: [] };
  const context = { shim: loadShim(), memory, pool, burst, port: 0, queue: 0 };
  const dispatch = new Dispatch({ ...context, handler: handle, inPlace, failed, forwardTable, delivery });
  dispatch.out = queue;
  for (let i = 0; i < CIRCULATING; i++) {
    const frame = dispatch.frames.take();
    memory.bytes.fill(i, frame, frame + BYTES);
    dispatch.frames.post(frame, BYTES, 0, 0);
  }
  queue.tx.flush();
  return () => {
    let packets = 0;
    for (let n = 0; n < PORTION; n++) {
      if (queue.tx.room(BURST) < BURST) throw new Error('the ring is full');
      if (inPlace === undefined) {
        const count = queue.rx.receive(burst, BURST);
        dispatch.run(count, Path.VF);
        queue.rx.release();
        packets += count;
      } else packets += dispatch.inPlace.run(queue, queue.inPlace, IN_PLACE_BURST);
      queue.tx.flush();
    }
    const { rx } = queue.ledger();
    if (rx !== CIRCULATING) throw new Error(`${rx} packets circulate`);
    return packets;
  };
}
