import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Burst, type FrameSource } from '../../../src/handler/burst.ts';
import { DROP, TX } from '../../../src/handler/handler.ts';
import { BURST, HEADROOM } from '../../../src/memory/layout.ts';
import { FRAME_SIZE, loaded, smallMemory } from '../../support/frames.ts';

describe('a burst', () => {
  it('begins with every verdict at DROP, regardless of the last burst', () => {
    const burst = loaded([[1], [2], [3]]);
    burst.verdict.fill(TX);
    burst.begin(2);
    expect([...burst.verdict.subarray(0, 3)]).toEqual([DROP, DROP, TX]);
    expect(burst.length).toBe(2);
    expect(burst.cursor).toBe(-1);
  });

  it('forgets its first packets and offers the rest undecided', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: BURST }), fc.nat(BURST), (length, wanted) => {
        const count = Math.min(wanted, length);
        const burst = new Burst(smallMemory(), 0);
        for (let i = 0; i < length; i++) {
          burst.offset[i] = 1000 + i;
          burst.bytes[i] = 60 + i;
          burst.hash[i] = -i;
          burst.port[i] = i;
          burst.path[i] = 1 + (i & 1);
        }
        burst.begin(length);
        burst.verdict.fill(TX);
        burst.shift(count);
        const rest = Array.from({ length: length - count }, (_, i) => i + count);
        expect(burst.length).toBe(rest.length);
        const shown = (array: Int32Array | Uint8Array) => [...array.subarray(0, burst.length)];
        expect(shown(burst.offset)).toEqual(rest.map((i) => 1000 + i));
        expect(shown(burst.bytes)).toEqual(rest.map((i) => 60 + i));
        expect(shown(burst.hash)).toEqual(rest.map((i) => -i | 0));
        expect(shown(burst.port)).toEqual(rest);
        expect(shown(burst.path)).toEqual(rest.map((i) => 1 + (i & 1)));
        expect(shown(burst.verdict)).toEqual(rest.map(() => DROP));
      }),
      { numRuns: 30 },
    );
  });

  it('knows which packet was looked at last', () => {
    const burst = loaded([[1], [2], [3]]);
    burst.packet(1);
    expect(burst.cursor).toBe(1);
    burst.shift(2);
    expect(burst.cursor).toBe(-1);
    expect(burst.packet(0).u8(0)).toBe(3);
  });

  it('is in the shared memory, where another view of the same queue reads it', () => {
    const memory = smallMemory();
    const burst = loaded([[1, 2, 3]], memory);
    burst.verdict[0] = TX;
    const other = new Burst(memory, 0);
    expect([other.offset[0], other.bytes[0], other.verdict[0]]).toEqual([burst.offset[0], 3, TX]);
  });
});

describe('sending from a burst', () => {
  const memory = smallMemory();
  const free = memory.layout.frames + 9 * FRAME_SIZE + HEADROOM;

  /** A datapath with one frame that writes down what becomes of it. */
  function pool(answers: Partial<FrameSource> = {}) {
    const calls: [string, ...number[]][] = [];
    const source: FrameSource = {
      take: answers.take ?? (() => free),
      post: (offset, length, offload, tag) => {
        calls.push(['post', offset, length]);
        return answers.post?.(offset, length, offload, tag) ?? true;
      },
      put: (offset) => {
        calls.push(['put', offset]);
      },
    };
    const burst = new Burst(memory, 0);
    burst.bind(source);
    return { burst, calls };
  }

  it('lets the handler fill a frame and posts it as it was left', () => {
    const { burst, calls } = pool();
    const sent = burst.send(60, (packet) => {
      packet.setU8(0, 7);
      packet.prepend(4).length = 50;
    });
    expect(sent).toBe(true);
    expect(calls).toEqual([['post', free - 4, 50]]);
    expect(memory.bytes[free]).toBe(7);
  });

  it('frees the frame when the handler throws or asks for more than a frame holds', () => {
    const { burst, calls } = pool();
    expect(() => burst.send(60, (packet) => packet.u8(60))).toThrow(RangeError);
    expect(() => burst.send(FRAME_SIZE, () => {})).toThrow(RangeError);
    expect(calls).toEqual([
      ['put', free],
      ['put', free],
    ]);
  });

  it('says false when no frame is free, the path is full, or there is no datapath', () => {
    expect(pool({ take: () => -1 }).burst.send(60, () => {})).toBe(false);
    expect(pool({ post: () => false }).burst.send(60, () => {})).toBe(false);
    expect(new Burst(memory, 0).send(60, () => {})).toBe(false);
  });
});
