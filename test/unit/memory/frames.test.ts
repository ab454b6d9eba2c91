import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameOwner, ownerTag } from '../../../src/memory/bit-fields.ts';
import type { FrameUser } from '../../../src/memory/frame-owners.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Memory } from '../../../src/memory/shared.ts';

const FRAMES = 64;
const FRAME_SIZE = 2048;
const [ALIVE, DEAD] = [ownerTag(0, 0, 1), ownerTag(0, 1, 2)];

function memory(queues = 1): Memory {
  return Memory.create({
    ...{ pageSize: 4096, ports: 2, queues, frameSize: FRAME_SIZE, framesPerWorker: FRAMES, ringEntries: 64 },
  });
}

function fresh(of = memory(), queue = 0): FramePool {
  const pool = new FramePool(of, queue);
  pool.owners.recover([]);
  return pool;
}

const stacked = (pool: FramePool): number[] => Array.from({ length: pool.count }, (_, i) => pool.peek(i));
const address = (frame: number): number => frame * FRAME_SIZE;

/** A path whose rings hold these frames. */
const rings = (tag: number, frames: readonly number[]): FrameUser => ({
  tag,
  enumerate(visit) {
    for (const frame of frames) visit(address(frame));
  },
});

it('a new pool has each frame once, and all of them free', () => {
  const pool = fresh();
  expect(pool.count).toBe(FRAMES);
  expect(stacked(pool).sort((a, b) => a - b)).toEqual(Array.from({ length: FRAMES }, (_, i) => address(i)));
});

it('a pool has the frames of its own queue only', () => {
  const shared = memory(3);
  const all = [0, 1, 2].flatMap((queue) => stacked(fresh(shared, queue)));
  expect(new Set(all).size).toBe(3 * FRAMES);
  expect(Math.max(...all)).toBe((3 * FRAMES - 1) * FRAME_SIZE);
});

it('a pool frees a frame by any address in it', () => {
  const pool = fresh();
  const top = pool.peek(0);
  pool.setOwner(top + 300, FrameOwner.HAND);
  pool.remove(1);
  pool.put(top + FRAME_SIZE - 1);
  expect(pool.peek(0)).toBe(top);
  expect(pool.ownerOf(top + 5)).toBe(FrameOwner.NONE);
});

it('the next worker finds the pool as the last one left it', () => {
  const shared = memory();
  const pool = fresh(shared);
  pool.remove(10);
  expect(stacked(new FramePool(shared, 0))).toEqual(stacked(pool));
});

it('a pool agrees with its model for any order of takes, handovers and frees', () => {
  const step = fc.record({
    what: fc.constantFrom('fill', 'hand', 'tx', 'free', 'reclaim'),
    which: fc.nat(FRAMES),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pool = fresh();
      const free = stacked(pool).reverse();
      const away: { frame: number; owner: number }[] = [];
      for (const { what, which } of steps) {
        if (what === 'reclaim') {
          const mine = away.filter(({ owner }) => owner !== FrameOwner.HAND);
          const found = pool.owners.reclaim(ALIVE);
          const fill = mine.filter(({ owner }) => owner & FrameOwner.FILL).length;
          expect(found).toEqual({ fill, tx: mine.length - fill });
          free.push(...mine.map(({ frame }) => frame).sort((a, b) => a - b));
          for (const one of mine) away.splice(away.indexOf(one), 1);
        } else if (what === 'free') {
          const [one] = away.splice(which % Math.max(away.length, 1), 1);
          if (one === undefined) continue;
          pool.put(one.frame + (which % FRAME_SIZE));
          free.push(one.frame);
        } else if (free.length > 0) {
          const frame = free.pop()!;
          expect(pool.peek(0)).toBe(frame);
          const owner =
            what === 'hand' ? FrameOwner.HAND : (what === 'fill' ? FrameOwner.FILL : FrameOwner.TX) | ALIVE;
          pool.setOwner(frame, owner);
          pool.remove(1);
          away.push({ frame, owner });
        }
        expect(stacked(pool)).toEqual([...free].reverse());
        for (const { frame, owner } of away) expect(pool.ownerOf(frame)).toBe(owner);
      }
    }),
    { numRuns: 60 },
  );
});

describe('after a death', () => {
  const owners = [
    FrameOwner.NONE,
    FrameOwner.HAND,
    FrameOwner.FILL | ALIVE,
    FrameOwner.TX | ALIVE,
    FrameOwner.FILL | DEAD,
  ];
  /** Where a frame was when the worker died; on the stack and in a ring at once is what a death leaves. */
  const place = fc.record({
    stacked: fc.boolean(),
    ringed: fc.boolean(),
    owner: fc.constantFrom(...owners, FrameOwner.TX | DEAD),
  });

  it('every frame is in exactly one place again', () => {
    fc.assert(
      fc.property(fc.array(place, { minLength: FRAMES, maxLength: FRAMES }), fc.boolean(), (places, held) => {
        const shared = memory();
        const left = new FramePool(shared, 0);
        places.forEach(({ stacked: on, owner }, frame) => {
          if (on) left.put(address(frame));
          left.setOwner(address(frame), owner);
        });
        const inRings = places.flatMap(({ ringed }, frame) => (ringed ? [frame] : []));
        const path = rings(ALIVE, inRings);

        const pool = new FramePool(shared, 0);
        pool.owners.recover([path], held ? [DEAD] : []);
        expect(pool.owners.duplicates([path])).toBe(0);
        const free = new Set(stacked(pool).map((at) => at / FRAME_SIZE));
        expect(free.size).toBe(pool.count);
        places.forEach(({ stacked: on, ringed, owner }, frame) => {
          const purpose = owner & (FrameOwner.FILL | FrameOwner.TX);
          const inKernel = purpose !== 0 && !on && (held || (owner & ~purpose) === ALIVE);
          expect(free.has(frame), `frame ${frame}`).toBe(!ringed && !inKernel);
        });
        for (const frame of free) expect(pool.ownerOf(address(frame))).toBe(FrameOwner.NONE);
      }),
      { numRuns: 200 },
    );
  });

  it('frames that a closing path still held come home with the order to reclaim', () => {
    const shared = memory();
    const left = fresh(shared);
    for (let i = 0; i < 10; i++)
      left.setOwner(left.peek(i), (i < 7 ? FrameOwner.FILL : FrameOwner.TX) | DEAD);
    left.remove(10);
    const pool = new FramePool(shared, 0);
    pool.owners.recover([], [DEAD]);
    expect(pool.count).toBe(FRAMES - 10);
    expect(pool.owners.leaving([])).toEqual({ fill: 7, tx: 3 });
    expect(pool.owners.reclaim(DEAD)).toEqual({ fill: 7, tx: 3 });
    expect(new Set(stacked(pool)).size).toBe(FRAMES);
    expect(pool.owners.reclaim(DEAD)).toEqual({ fill: 0, tx: 0 });
  });
});

it('a pool counts the frames that are in two places', () => {
  const pool = fresh();
  expect(pool.owners.duplicates([])).toBe(0);
  expect(pool.owners.duplicates([rings(ALIVE, [3, 4])])).toBe(2);
  pool.remove(FRAMES);
  expect(pool.owners.duplicates([rings(ALIVE, [3, 4]), rings(DEAD, [4, 5])])).toBe(1);
});
