/**
 * A worker's poll loop on the calling thread: for profilers that see one thread only.
 *
 * Its queue has one path, on which packets circulate in memory. The loop runs in slices, between which the thread's event loop
 * runs and Ctrl-C is noticed. Each slice is a worker's life, so the next one takes over as after a death.
 */
import { setImmediate as eventLoop } from 'node:timers/promises';
import { runWorker } from '../../src/datapath/worker.ts';
import { check } from '../../src/errors.ts';
import { Burst } from '../../src/handler/burst.ts';
import type { TickingHandler } from '../../src/handler/handler.ts';
import { loadHandler } from '../../src/handler/load-handler.ts';
import { pageSize } from '../../src/kernel/machine.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../src/memory/bit-fields.ts';
import { pathCounters } from '../../src/memory/counters.ts';
import { Path } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { LoopDevice } from '../../src/paths/memory/loop.ts';
import { geometryOf } from '../../src/settings.ts';

const BYTES = 60;
const CIRCULATING = 256;
/** Long enough that a slice's beginning costs nothing, short enough for Ctrl-C. */
const SLICE_MILLIS = 200;

/** Polls for so many seconds, or until the signal. Returns how many packets were received. @throws what a handler throws */
export async function runInline(handlerUrl: URL, seconds: number, signal: AbortSignal): Promise<number> {
  const shim = loadShim();
  const shape = { ports: [{}], queues: 1, frameSize: 2048, frames: 4096 };
  const memory = Memory.create(geometryOf(shape, pageSize()));
  const { doubles } = memory;
  const bells = (['doorbellFd', 'supervisorFd'] as const).map((field) => {
    const fd = check(shim.eventfd(), 'eventfd2');
    memory.workers[0]![field] = fd;
    return fd;
  });
  setMac(memory, 0, '02:00:00:00:00:01');
  const device = new LoopDevice(memory, 0, Path.VF, 'vf');
  device.open();
  const owner = ownerWord(1, Path.VF, pathBit(Path.VF));
  Atomics.store(memory.words, memory.queue(0, 0).at('owner'), owner);
  const burst = new Burst(memory, 0);
  const { handle } = await loadHandler(handlerUrl.href, {}, { queue: 0, queues: 1, memory, burst });

  let toSend = CIRCULATING;
  let first = true;
  /** Called at a slice's start and at its end. */
  const tick: TickingHandler['tick'] = (burst) => {
    while (toSend > 0 && burst.send(BYTES, (packet) => packet.setU8(0, 2))) toSend--;
    if (!first) memory.control.stopAll();
    first = false;
  };
  const handler = { handle, tick, tickMillis: SLICE_MILLIS };
  const failed = (error: unknown): never => {
    throw error;
  };
  const end = performance.now() + seconds * 1000;
  try {
    while (performance.now() < end && !signal.aborted) {
      first = true;
      memory.control.stop = 0;
      runWorker({
        shim,
        memory,
        queue: 0,
        mode: 'poll',
        burst,
        handler,
        failed,
        rssKey: undefined,
        routes: [],
      });
      await eventLoop();
    }
    return doubles[pathCounters(memory, 0, 0, Path.VF).rxPackets]!;
  } finally {
    device.close();
    for (const fd of bells) shim.close(fd);
  }
}
