/** A path that hands back what it is sent: every packet once and in order, every frame in one place, through deaths. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { TX } from '../../../src/handler/handler.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { BURST, HEADROOM, Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { LoopDevice, LoopQueue } from '../../../src/paths/memory/loop.ts';
import { inPlaceTwin } from '../../models/in-place-twin.ts';
import { ringOperationsTwin } from '../../models/ring-operations-twin.ts';

const FRAMES = 256;
const ENTRIES = 256;
/** A burst that was received has room to go back before it is released. */
const MAX = ENTRIES - BURST;
const MAX_LENGTH = 1792;
const ADDRESS = { port: 0, queue: 0, path: Path.VF };

function opened(): Memory {
  const memory = Memory.create({
    ...{
      pageSize: 4096,
      ports: 1,
      queues: 1,
      frameSize: 2048,
      framesPerWorker: FRAMES,
      ringEntries: ENTRIES,
    },
  });
  new LoopDevice(memory, 0, Path.VF, 'vf').open();
  return memory;
}

class Death extends Error {}

it('a worker of a loop queue that dies at any moment neither loses nor doubles a frame, and sends no packet twice', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: MAX }),
      fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 10 }),
      fc.nat(2 ** 32 - 1),
      fc.boolean(),
      (circulating, deaths, dropped, inPlace) => {
        const memory = opened();
        const { view, layout } = memory;
        let left = Number.POSITIVE_INFINITY;
        const mortal = (): void => {
          if (--left === 0) throw new Death();
        };
        // Ring operations that may die between any two of their stores.
        const twin = ringOperationsTwin(memory, mortal);
        const burst = new Burst(memory, 0);
        const start = (): { pool: FramePool; queue: LoopQueue } => {
          const pool = new FramePool(memory, 0);
          const queue = new LoopQueue(memory, pool, ADDRESS, twin);
          pool.owners.recover([queue]);
          const { fill, rx, tx, completing } = queue.ledger();
          expect([fill, tx, completing]).toEqual([0, 0, 0]);
          expect(pool.count + rx).toBe(FRAMES);
          expect(pool.owners.duplicates([queue])).toBe(0);
          return { pool, queue };
        };
        let { pool, queue } = start();
        for (let i = 0; i < circulating; i++) {
          const offset = layout.frames + pool.peek(0) + HEADROOM;
          view.setUint32(offset, i);
          queue.tx.push(offset, 60);
          pool.remove(1);
        }
        queue.tx.flush();

        /** One round; packets whose bit is set are dropped when they come, the others go round. */
        const isDropped = (at: number): boolean => ((dropped >>> (view.getUint32(at) % 32)) & 1) === 1;
        const loop = inPlaceTwin(memory, (at) => (isDropped(at) ? 0 : TX), mortal);
        const inPlaceRound = (): void => {
          const { inPlace } = queue;
          const count = inPlace.begin(100);
          if (count > 0) loop(inPlace.at, inPlace.from, inPlace.to, count);
          for (let left = count > 0 ? inPlace.end() : 0; left > 0; left--) {
            pool.put(burst.offset[left - 1]! - layout.frames);
            mortal();
          }
          queue.rx.release();
          mortal();
          queue.tx.flush();
          mortal();
        };
        const byBurst = (): void => {
          const count = queue.rx.receive(burst, BURST);
          twin.begin(burst.at, 0, Path.VF, false);
          for (let i = 0; i < count; i++) {
            burst.verdict[i] = isDropped(burst.offset[i]!) ? 0 : TX;
          }
          for (let i = 0; i < count; ) {
            const pushed = queue.tx.pushBurst(burst.at, i, count, MAX_LENGTH);
            mortal();
            if (pushed === 0) {
              pool.put(burst.offset[i]! - layout.frames);
              mortal();
            }
            i += Math.max(pushed, 1);
          }
          queue.rx.release();
          mortal();
          queue.tx.flush();
          mortal();
        };
        const round = inPlace ? inPlaceRound : byBurst;
        for (const after of deaths) {
          left = after;
          try {
            for (let i = 0; i < 20; i++) round();
          } catch (error) {
            if (!(error instanceof Death)) throw error;
          }
          left = Number.POSITIVE_INFINITY;
          ({ pool, queue } = start());
        }
        for (let i = 0; i < 4; i++) round(); // each that is to be dropped has come by now
        const here: number[] = [];
        for (let count = queue.rx.ready(1); count > 0; count = queue.rx.ready(1)) {
          queue.rx.receive(burst, 1);
          here.push(view.getUint32(burst.offset[0]!));
          pool.put(burst.offset[0]! - layout.frames);
          queue.rx.release();
        }
        const expected = Array.from({ length: circulating }, (_, i) => i).filter(
          (i) => ((dropped >>> (i % 32)) & 1) === 0,
        );
        // In order, wherever the round begins.
        const first = Math.max(0, here.indexOf(expected[0]!));
        expect([...here.slice(first), ...here.slice(0, first)]).toEqual(expected);
        expect(pool.count).toBe(FRAMES);
      },
    ),
    { numRuns: 300 },
  );
});
