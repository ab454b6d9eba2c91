/** Metadata before packets, where a frame or a driver has none. */
import { describe, expect, it } from 'vitest';
import { MAX_WITH_METADATA } from '../../../src/kernel/metadata-programs.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../../src/memory/layout.ts';
import { METADATA_BYTES, METADATA_MARK, MetadataField } from '../../../src/memory/metadata.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { RingQueue, RingTransmitter } from '../../../src/paths/ring-queue.ts';
import { TapFrames } from '../../../src/paths/tap/tap-frames.ts';

const GEOMETRY = { pageSize: 4096, ports: 1, queues: 1, framesPerWorker: 128, ringEntries: 64 };
const VF = { port: 0, queue: 0, path: Path.VF } as const;

function tapFrames(frameSize: number, metadata: number): TapFrames {
  const memory = Memory.create({ ...GEOMETRY, frameSize });
  const address = { port: 0, queue: 0, path: Path.SYNTHETIC } as const;
  memory.slot(address).metadata = metadata;
  return new TapFrames(memory, new FramePool(memory, 0), address);
}

describe('a read of the tap', () => {
  // A packet of so many bytes has a tag of four in place of metadata.
  const bare = MAX_WITH_METADATA + 1 + 4;

  it('that may bring a packet without metadata is looked at, although it fits its frame', () => {
    const frames = tapFrames(16_384, 1);
    expect([frames.isPacket(bare - 1), frames.isLong(bare - 1)]).toEqual([true, false]);
    expect([frames.isPacket(bare), frames.isLong(bare)]).toEqual([false, true]);
  });

  it('is long only if it fills its frame where there is no metadata, or frames are shorter', () => {
    const without = tapFrames(16_384, 0);
    expect([without.isPacket(bare), without.isLong(without.room)]).toEqual([true, true]);
    const short = tapFrames(2048, 1);
    expect([short.isPacket(short.room - 1), short.isLong(short.room)]).toEqual([true, true]);
  });
});

describe('a frame that is given to a driver', () => {
  it.each([
    ['has no metadata of an earlier packet, where packets come with them', 1, 0],
    ['is left alone elsewhere', 0, METADATA_MARK],
  ])('%s', (_, metadata, expected) => {
    const memory = Memory.create({ ...GEOMETRY, frameSize: 2048 });
    const device = new MemoryDevice(memory, 0, Path.VF, 'vf');
    device.open();
    memory.slot(VF).metadata = metadata;
    const pool = new FramePool(memory, 0);
    const queue = new RingQueue(memory, pool, VF, new RingTransmitter(memory, pool, VF));
    pool.owners.recover([queue]);
    const mark = (address: number): number =>
      memory.layout.frames + address + HEADROOM - METADATA_BYTES + MetadataField.MARK;
    const addresses = Array.from({ length: GEOMETRY.ringEntries }, (_, i) => pool.peek(i));
    for (const address of addresses) memory.view.setUint16(mark(address), METADATA_MARK, true);
    queue.refill();
    expect(pool.count).toBe(GEOMETRY.framesPerWorker - GEOMETRY.ringEntries);
    for (const address of addresses) expect(memory.view.getUint16(mark(address), true)).toBe(expected);
  });
});
