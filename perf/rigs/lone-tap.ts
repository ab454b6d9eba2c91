/**
 * A tap of ours and the worker that serves it, without a port: no NetVSC, no coordinator. The tap, the worker thread, its path
 * queue and its handler are those of a port with one queue.
 */
import { QueueWorkers } from '../../src/coordinator/queue-workers.ts';
import { check, TwinpathError } from '../../src/errors.ts';
import { pageSize } from '../../src/kernel/machine.ts';
import { ownerWord, pathBit } from '../../src/memory/bit-fields.ts';
import { Driver, Path, Reader } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { limitSentBytes, maxSentBytes } from '../../src/paths/packet-size.ts';
import { openTap } from '../../src/paths/tap/open.ts';
import { geometryOf, single, validate } from '../../src/settings.ts';
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
  const slot = memory.slot({ port: 0, queue: 0, path: Path.SYNTHETIC });
  const tap = wire.inside(() => openTap(shim, netlink, { template: 'twinpath%d', queues: 1, mtu: MTU }));
  const bells = [shim.eventfd(), shim.eventfd()].map((fd) => check(fd, 'eventfd2'));
  const worker = memory.workers[0]!;
  worker.doorbellFd = bells[0]!;
  worker.coordinatorFd = bells[1]!;
  limitSentBytes(memory, 0, Path.SYNTHETIC, maxSentBytes(MTU, layout.geometry.frameSize));
  slot.open(Driver.TAP, { fd: tap.fds[0]!, reader: Reader.ASKED, useUring: 1 });
  const owner = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
  Atomics.store(words, memory.queue(0, 0).at('owner'), owner);

  let failure: unknown;
  setMac(memory, 0, MAC);
  const workers = new QueueWorkers(memory.shared, settings, {
    report: ({ kind, event }) => {
      if (kind === 'error') failure ??= TwinpathError.from(event);
      if (kind === 'worker' && event.state === 'died')
        failure ??= new Error(`the worker died: ${event.detail}`);
    },
    gaveUp: () => {},
    restored: () => {},
    gone: () => {},
  });
  await workers.start();
  try {
    const result = await work('twinpath0');
    if (failure !== undefined) throw failure;
    const refused = slot.uringErrno;
    if (refused !== 0) throw new Error(`this kernel refused io_uring: errno ${refused}`);
    return result;
  } finally {
    memory.control.stopAll();
    await workers.stop();
    for (const fd of [...bells, ...tap.fds]) shim.close(fd);
  }
}
