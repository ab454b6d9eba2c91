import { describe, expect, it } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import type { RingQueue } from '../../../src/paths/ring-queue.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

const ENTRIES = 64;

function setUp(): { memory: Memory; device: MemoryDevice; queue: RingQueue; pool: FramePool } {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 256, ringEntries: ENTRIES },
  });
  const device = new MemoryDevice(memory, 0, Path.VF, 'vf0');
  device.open();
  const pool = new FramePool(memory, 0);
  pool.owners.recover([]);
  const queue = memoryQueue(memory, pool, { port: 0, queue: 0, path: Path.VF });
  queue.refill();
  return { memory, device, queue, pool };
}

const attach = (memory: Memory): MemoryPeer | undefined => MemoryPeer.attach(memory, 0, 0, Path.VF);

describe('a memory path', () => {
  it('lets a peer in from when it is armed until it is disarmed', () => {
    const { memory, device } = setUp();
    expect(attach(memory)).toBeUndefined();
    device.arm();
    const peer = attach(memory)!;
    expect(peer.alive).toBe(true);
    expect(peer.deliver(3, () => 60)).toBe(3);
    device.disarm();
    expect(peer.alive).toBe(false);
    expect(attach(memory)).toBeUndefined();
  });

  it('tells how many packets it delivered that nobody has received', () => {
    const { memory, device, queue } = setUp();
    device.arm();
    const peer = attach(memory)!;
    expect(peer.deliver(5, () => 60)).toBe(5);
    expect(peer.undelivered).toBe(5);
    queue.rx.receive(new Burst(memory, 0), 8);
    queue.rx.release();
    expect(peer.undelivered).toBe(0);
  });

  it('leaves the rings alone once it is gone, so that nothing taken back was sent as well', () => {
    const { memory, device, queue, pool } = setUp();
    device.arm();
    const peer = attach(memory)!;
    for (let i = 0; i < 4; i++) {
      const address = pool.peek(0);
      pool.remove(1);
      queue.tx.push(memory.layout.frames + address, 60);
    }
    queue.tx.flush();
    expect(peer.collect(1, () => {})).toBe(1);
    device.disarm();
    expect(peer.collect(8, () => {})).toBe(0);
    expect(peer.deliver(8, () => 60)).toBe(0);
    expect(queue.tx.reclaimUnsent(() => {})).toBe(3);
  });

  it('does not let the peer of an earlier device touch a later one', () => {
    const { memory, device } = setUp();
    device.arm();
    const old = attach(memory)!;
    device.close();
    device.open();
    device.arm();
    expect(old.deliver(1, () => 60)).toBe(0);
    expect(attach(memory)!.alive).toBe(true);
  });

  it('waits, when it goes, for a peer in the middle of a burst, but not for one that died in it', () => {
    const { memory, device } = setUp();
    device.arm();
    const peer = attach(memory)!;
    let asked = 0;
    // The device goes while its peer writes: on one thread that burst can never end.
    expect(
      peer.deliver(1, () => {
        asked++;
        device.disarm();
        return 60;
      }),
    ).toBe(1);
    expect(asked).toBe(1);
    expect(peer.alive).toBe(false);
  });
});
