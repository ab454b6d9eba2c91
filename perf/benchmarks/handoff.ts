/**
 * The cost of handing a packet to another worker: software RSS over the memory path, without a kernel.
 *
 * `handoff1` and `handoff32`: one thread pushes descriptors into a handoff ring, publishes them in batches of 1 or 32, takes them
 * out at the other end and returns the frames. So it does the work of both workers without waiting for another thread. `kept` and
 * `handed`: one receiving queue and two working ones; either the receiving queue owns all flows, or it hands over every second
 * packet.
 */
import { openPort } from '../../src/index.ts';
import { HandoffKind } from '../../src/memory/bit-fields.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../../src/memory/handoff.ts';
import { HEADROOM, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { nanosEach, stopwatch } from '../rigs/timing.ts';
import { type Benchmark, comparisons, type Sample } from '../runner/benchmark.ts';

/** Packets between readings of the clock. */
const PORTION = 1_000_000;

export const handoff: Benchmark = {
  name: 'handoff',
  about:
    'a packet handed to the worker that owns its flow; memory path; the other core stands for the network',
  variants: {
    handoff1: ({ seconds }) => ({ ns: handoffNanos(1, seconds) }),
    handoff32: ({ seconds }) => ({ ns: handoffNanos(32, seconds) }),
    kept: ({ seconds }) => portRun(false, seconds),
    handed: ({ seconds }) => portRun(true, seconds),
  },
  comparisons: comparisons(`
    handoff         | handoff32.ns               | ns      |     | work of both workers to hand a packet over, 32 at a time
    handoff:batch-1 | handoff1.ns                | ns      |     | the same, one at a time
    handoff:port    | handed.mpps / kept.mpps | Mpps    |     | one receiving queue, two working ones, every second packet handed over; peer: none handed over
    handoff:lost    | handed.lost             | packets | ≤ 0 | packets lost meanwhile
  `),
  full: { runs: 5, seconds: 1 },
  quick: { runs: 2, seconds: 0.5 },
};

/** Both ends on one thread: the work, without the wait. */
function handoffNanos(batch: number, seconds: number): number {
  const geometry = { pageSize: 4096, ports: 1, queues: 2, frameSize: 2048 };
  const memory = Memory.create({ ...geometry, framesPerWorker: 4096, ringEntries: 64 });
  const [from, to] = [0, 1].map((queue) => {
    const pool = new FramePool(memory, queue);
    pool.owners.recover([]);
    return pool;
  }) as [FramePool, FramePool];
  const sender = new HandoffSender(memory, from, 0, 0, 1);
  const receiver = new HandoffReceiver(memory, to, 0, 0, 1);
  const offset = new Int32Array(64);
  const bytes = new Int32Array(64);
  const hash = new Int32Array(64);
  const { frames } = memory.layout;
  const pass = (): number => {
    for (let done = 0; done < PORTION; done += batch) {
      for (let i = 0; i < batch; i++) {
        sender.push(frames + from.peek(i) + HEADROOM, 60, HandoffKind.PACKET, Path.VF, i);
      }
      sender.commit();
      from.remove(batch);
      const came = receiver.receive(offset, bytes, hash, 64);
      for (let i = 0; i < came; i++) to.put(offset[i]! - frames);
      receiver.release(came);
      to.flush();
      from.collect();
    }
    return PORTION;
  };
  pass(); // V8 has compiled everything after this
  return nanosEach(seconds, pass);
}

/** UDP over IPv4 to one queue; with `both`, flows of both queues in turn. */
async function portRun(both: boolean, seconds: number): Promise<Sample> {
  const handler = new URL('../../src/handlers/reflect.js', import.meta.url);
  const port = await openPort({ network: 'memory', queues: 2, mode: 'adaptive', handler });
  if (!both) await port.stopQueue(1);
  const memory = Memory.attach(port.shared);
  const peers = [0, 1].map((queue) => MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!);
  let flow = 0;
  const write = (at: number): number => {
    const { view } = memory;
    view.setUint32(at + 12, 0x0800_4500);
    view.setUint16(at + 20, 0);
    view.setUint8(at + 23, 17);
    view.setUint32(at + 26, 0x0a00_0001);
    view.setUint32(at + 30, 0x0a00_0002);
    view.setUint16(at + 34, 1024 + (flow++ & 255));
    view.setUint16(at + 36, 7);
    return 60;
  };
  const discard = (): void => {};
  let lost = 0;
  const run = (): number => {
    let delivered = 0;
    let collected = 0;
    const deadline = Date.now() + 60_000;
    while (collected < PORTION && Date.now() < deadline) {
      delivered += peers[0]!.deliver(
        Math.min(64, PORTION - delivered, 2048 - (delivered - collected)),
        write,
      );
      for (const peer of peers) collected += peer.collect(64, discard);
    }
    lost += PORTION - collected;
    return PORTION;
  };
  run();
  lost = 0;
  const before = port.stats().handedOver;
  const elapsed = stopwatch();
  const ns = nanosEach(seconds, run);
  const { millis, cpuMillis } = elapsed();
  const handedOver = port.stats().handedOver - before;
  await port.close();
  if (both !== handedOver > 0) throw new Error(`${handedOver} packets were handed over`);
  return { mpps: 1e3 / ns, cpu: (ns * cpuMillis) / millis, lost };
}
