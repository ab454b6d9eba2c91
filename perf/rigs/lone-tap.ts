/**
 * A tap of ours and the worker that serves it, without a port: no NetVSC, no coordinator. The tap, the worker thread, its path
 * queue and its handler are those of a port with one queue.
 */
import { QueueWorkers } from '../../src/coordinator/queue-workers.ts';
import { check, TwinpathError } from '../../src/errors.ts';
import { pageSize } from '../../src/kernel/page-size.ts';
import { Control, Driver, Path, PathSlot, QueueBlock, WorkerBlock } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { ownerWord, pathBit } from '../../src/memory/words.ts';
import { geometryOf, single, validate } from '../../src/options.ts';
import { limitLength, longestOf } from '../../src/paths/frame-room.ts';
import { openTap } from '../../src/paths/tap/open.ts';
import type { TapWire } from './tap.ts';

const MTU = 1500;
const MAC = '02:00:00:00:00:01';

/** Serves a tap called `twinpath0` with a handler of src/handlers while `work` runs. */
export async function withLoneTap<T>(
  wire: TapWire,
  handler: string,
  work: (name: string) => Promise<T>,
): Promise<T> {
  const { shim, netlink } = wire;
  const settings = validate(
    single({
      handler: new URL(`../../src/handlers/${handler}.js`, import.meta.url),
      network: 'memory',
      queues: 1,
      mode: 'poll',
      rss: 'device',
      pin: true,
    }),
  );
  const memory = Memory.create(geometryOf(settings, pageSize()));
  const { words, layout } = memory;
  const slot = layout.slot(0, 0, Path.SYNTHETIC);
  const tap = wire.inside(() => openTap(shim, netlink, { template: 'twinpath%d', queues: 1, mtu: MTU }));
  const bells = [shim.eventfd(), shim.eventfd()].map((fd) => check(fd, 'eventfd2'));
  words[(layout.worker(0) + WorkerBlock.doorbellFd) >> 2] = bells[0]!;
  words[(layout.worker(0) + WorkerBlock.attentionFd) >> 2] = bells[1]!;
  words[(slot + PathSlot.fd) >> 2] = tap.fds[0]!;
  words[(slot + PathSlot.useUring) >> 2] = 1;
  limitLength(memory, 0, Path.SYNTHETIC, longestOf(MTU, layout.geometry.frameSize));
  words[(slot + PathSlot.driver) >> 2] = Driver.TAP;
  const owner = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
  Atomics.store(words, (layout.queue(0, 0) + QueueBlock.owner) >> 2, owner);

  let failure: unknown;
  setMac(memory, 0, MAC);
  const workers = new QueueWorkers(memory.shared, settings, {
    worker: ({ state, detail }) => {
      if (state === 'died') failure ??= new Error(`the worker died: ${detail}`);
    },
    error: (error) => {
      failure ??= TwinpathError.from(error);
    },
    gaveUp: () => {},
    restored: () => {},
    left: () => {},
  });
  await workers.start();
  try {
    const result = await work('twinpath0');
    if (failure !== undefined) throw failure;
    const refused = words[(slot + PathSlot.uringErrno) >> 2]!;
    if (refused !== 0) throw new Error(`this kernel refused io_uring: errno ${refused}`);
    return result;
  } finally {
    Atomics.store(words, Control.stop >> 2, 1);
    await workers.stop();
    for (const fd of [...bells, ...tap.fds]) shim.close(fd);
  }
}
