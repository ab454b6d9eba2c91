/** A pool whose frames the fill rings of both paths want whole, and that many applications want as well. */
import { expect, it } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

const FRAMES = 4096;
const QUEUES = 8;
const BURST = 32;

it('lends what the rings of all queues hold, and goes on to receive when none comes back', () => {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, frameSize: 2048, ringEntries: FRAMES / 2 },
    ...{ queues: QUEUES, framesPerWorker: FRAMES },
  });
  const pools = Array.from({ length: QUEUES }, (_, queue) => new FramePool(memory, queue));
  for (const pool of pools) pool.owners.recover([]);
  const pool = pools[0]!;
  const burst = new Burst(memory, 0);
  const paths = [Path.SYNTHETIC, Path.VF].map((path) => {
    const device = new MemoryDevice(memory, 0, path, `memory${path}`);
    device.open();
    const queue = memoryQueue(memory, pool, { port: 0, queue: 0, path });
    for (let i = 0; i < FRAMES / 64; i++) queue.refill();
    device.arm();
    return { queue, peer: MemoryPeer.attach(memory, 0, 0, path)! };
  });
  // Packets are handed to the workers of all queues, whose rings together have room for more than there is.
  const senders = pools.map((one, queue) => new DeliverySender(memory, one, burst, 0, queue));
  const { queue, peer } = paths[1]!;
  expect(pool.count).toBeGreaterThan(pool.reserve);
  let lent = 0;
  for (let round = 0; round < 1000; round++) {
    queue.refill();
    expect(peer.deliver(BURST, () => 60)).toBe(BURST);
    const count = queue.rx.receive(burst, BURST);
    for (let i = 0; i < count; i++) {
      pool.setOwner(burst.offset[i]! - memory.layout.frames, pool.hand);
      const to = senders[round % QUEUES]!;
      if (to.push(i, burst.offset[i]!, 60)) {
        to.commit();
        lent++;
      } else pool.put(burst.offset[i]! - memory.layout.frames);
    }
    queue.rx.release();
  }
  expect(lent).toBeGreaterThanOrEqual(FRAMES / 4);
  expect(pool.count).toBeLessThan(pool.spare); // it was the pool that ended it, and not the rings
  expect(paths[0]!.queue.ledger().fill).toBe(FRAMES / 2);
});
