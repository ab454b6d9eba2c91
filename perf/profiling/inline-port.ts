/**
 * A port on the memory path whose poll loop runs on the thread that calls: for profilers that see one thread only.
 *
 * The loop runs in slices, between which the thread's event loop turns: there the coordinator's part is done
 * (opening the path, orders and their acknowledgements), and Ctrl-C is heard. Each slice is a worker's life, so the
 * next one takes over as after a death. The network is played from inside the handler: what was sent is collected
 * and new packets are delivered, so that there is always a burst to receive.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { Boundary } from '../../src/coordinator/boundary.ts';
import { ManagedPort } from '../../src/coordinator/managed-port.ts';
import { MemoryNetwork } from '../../src/coordinator/memory-network.ts';
import { Ownership } from '../../src/coordinator/ownership.ts';
import { runWorker } from '../../src/datapath/worker.ts';
import { check } from '../../src/errors.ts';
import { Burst } from '../../src/handler/burst.ts';
import type { Handler } from '../../src/handler/handler.ts';
import { type LoadedHandler, loadHandler } from '../../src/handler/load-handler.ts';
import { pageSize } from '../../src/kernel/page-size.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Journal } from '../../src/memory/journal.ts';
import { Path } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { geometryOf } from '../../src/options.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { spread } from '../../src/rss/redirection.ts';

const BYTES = 60;
const BURST = 64;
/** Packets under way: some bursts, so that none finds an empty ring. */
const WINDOW = 8 * BURST;
/** Long enough that a slice's beginning costs nothing, short enough for Ctrl-C. */
const SLICE_MILLIS = 200;
/** Slices in which a port without traffic opens or closes its path. */
const PATIENCE = 1000;

/** Polls for so many seconds, or until the signal. Returns how many packets came back. @throws TwinpathError */
export async function runInline(handlerUrl: URL, seconds: number, signal: AbortSignal): Promise<number> {
  const shim = loadShim();
  const shape = { ports: [{}], queues: 1, frameSize: 2048, frames: 8192 };
  const memory = Memory.create(geometryOf(shape, pageSize()));
  const { layout } = memory;
  memory.bytes.set(spread([0]), layout.redirection(0));
  const bells = (['doorbellFd', 'attentionFd'] as const).map((name) => {
    const fd = check(shim.eventfd(), 'eventfd2');
    memory.workers[0]![name] = fd;
    return fd;
  });
  const network = new MemoryNetwork(memory, 0);
  const ownership = new Ownership(shim, memory, new Journal(memory), 0, () => {});
  const failures: unknown[] = [];
  const boundary = new Boundary((error) => failures.push(error));
  const events = {
    ...{ link: () => {}, changed: () => {}, error: (error: unknown) => failures.push(error) },
    guard: (what: string, work: () => void | Promise<void>) => boundary.guard(what, work),
  };
  const port = new ManagedPort(memory, 0, network, ownership, events);
  setMac(memory, 0, network.mac);
  const burst = new Burst(memory, 0);
  const context = { queue: 0, queues: 1, memory, burst };
  const inner = await loadHandler(handlerUrl.href, {}, context);

  let collected = 0;
  const slice = async (handle: Handler, millis: number): Promise<void> => {
    let first = true;
    // Called at a slice's start and after `millis`.
    const tick = (): void => {
      if (!first) memory.control.stopAll();
      first = false;
    };
    const handler: LoadedHandler = { handle, tick, tickMillis: millis };
    const failed = (error: unknown): void => void failures.push(error);
    memory.control.stop = 0;
    runWorker({
      ...{ shim, memory, queue: 0, mode: 'poll', burst, handler, failed, rssKey: undefined, routes: [] },
    });
    port.attention();
    await turn();
    if (failures.length > 0) throw failures[0];
  };
  const settle = async (what: Promise<void>): Promise<void> => {
    let done = false;
    what.then(
      () => {
        done = true;
      },
      (error) => failures.push(error),
    );
    for (let tries = 0; !done && tries < PATIENCE; tries++) await slice(inner.handle, 1);
    if (!done) throw new Error('the port neither opened nor closed');
  };

  try {
    await settle(port.start());
    const peer = MemoryPeer.attach(memory, 0, 0, Path.SYNTHETIC)!;
    let delivered = 0;
    const length = (): number => BYTES;
    const discard = (): void => {};
    const circulate = (): void => {
      collected += peer.collect(WINDOW, discard);
      delivered += peer.deliver(Math.min(BURST, WINDOW - (delivered - collected)), length);
    };
    const handle: Handler = (burst) => {
      inner.handle(burst);
      circulate();
    };
    peer.deliver(WINDOW, length);
    delivered = WINDOW;
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end && !signal.aborted) await slice(handle, SLICE_MILLIS);
    await settle(port.close());
    return collected;
  } finally {
    for (const fd of bells) shim.close(fd);
  }
}
