/** The coordinator's checkpoint: whoever reads it finds the last whole one, wherever its writer died. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Checkpoint } from '../../../src/memory/checkpoint.ts';
import { Memory } from '../../../src/memory/shared.ts';

const memory = (ports = 1): Memory =>
  Memory.create({
    ...{ pageSize: 4096, ports, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });

describe('a checkpoint', () => {
  it('is undefined before the first', () => {
    expect(new Checkpoint(memory()).load()).toBeUndefined();
  });

  it('is read by every reader as it was saved last', () => {
    const shared = memory();
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        new Checkpoint(shared).save(value);
        expect(new Checkpoint(Memory.attach(shared.shared)).load()).toEqual(
          JSON.parse(JSON.stringify(value)),
        );
      }),
    );
  });

  it('is the one before as long as the next is not whole', () => {
    const shared = memory();
    const checkpoint = new Checkpoint<{ text: string }>(shared);
    const { layout, bytes, words } = shared;
    for (let i = 0; i < 5; i++) {
      checkpoint.save({ text: `number ${i}` });
      // The writer of the next one dies half-way: it writes to the other copy, and has not stored the head.
      const head = words[layout.checkpointHead >> 2]!;
      const other = layout.checkpoint(((head + 1) & 1) as 0 | 1);
      bytes.fill(0x7b, other, other + 64);
      expect(checkpoint.load()).toEqual({ text: `number ${i}` });
    }
  });

  it('that is too large is refused, and the one before stays', () => {
    const checkpoint = new Checkpoint<string>(memory());
    checkpoint.save('small');
    expect(() => checkpoint.save('x'.repeat(1 << 20))).toThrow(RangeError);
    expect(checkpoint.load()).toBe('small');
  });

  it('has room for ports of the most queues, with long names and numbers', () => {
    const ports = 3;
    const path = {
      link: {
        name: 'x'.repeat(127),
        statistics: Array(24).fill(2 ** 53),
        altNames: Array(4).fill('y'.repeat(127)),
      },
      fds: Array(64).fill(1_048_575),
      segmentFds: Array(64).fill(1_048_575),
      drops: Array.from({ length: 64 }, () => Array(5).fill(2 ** 53)),
      settings: [{ name: 'rss', original: Array(512).fill(63), applied: Array(512).fill(63) }],
    };
    const checkpoint = new Checkpoint<unknown>(memory(ports));
    const value = Array.from({ length: ports }, () => ({ slots: [path, path, path] }));
    checkpoint.save(value);
    expect(checkpoint.load()).toEqual(value);
  });
});
