/** Packets in chains of descriptors, against a kernel that reads and writes them: test/models/chain-mode.ts. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM } from '../../../src/memory/layout.ts';
import { Consumer, Producer } from '../../../src/memory/ring.ts';
import type { ChainQueue } from '../../../src/paths/af-xdp/chain-queue.ts';
import { ChainBench, ENTRIES, type Fate, ROOM, read } from '../../models/chain-mode.ts';

/** Lengths around those of one buffer and of several, and any other. */
const length = fc.oneof(
  fc.integer({ min: 60, max: 1514 }),
  fc.integer({ min: 60, max: 9018 }),
  fc.integer({ min: -2, max: 2 }).map((more) => ROOM + more),
  fc.integer({ min: -2, max: 2 }).map((more) => 2 * ROOM + more),
  fc.constantFrom(16_128, 4096, 8192),
);
const fate = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Fate>('sent') },
  { weight: 2, arbitrary: fc.constant<Fate>('dropped') },
  { weight: 1, arbitrary: fc.constant<Fate>('busy') },
);
const step = fc.record({
  what: fc.constantFrom(
    'push',
    'push',
    'push',
    'flush',
    'flush',
    'land',
    'land chunks',
    'complete',
    'refill',
    'die',
  ),
  bytes: length,
  shift: fc.oneof(fc.constant(0), fc.integer({ min: -240, max: 4000 })),
  count: fc.integer({ min: 1, max: 6 }),
});

interface Step {
  readonly what: string;
  readonly bytes: number;
  readonly shift: number;
  readonly count: number;
}

function play(bench: ChainBench, { what, bytes, shift, count }: Step): void {
  const { tx } = bench.queue;
  if (what === 'push') {
    // A dropped packet is sent again only where there is room.
    const most = Math.min(shift, 16_384 - HEADROOM - bytes);
    for (let i = 0; i < count && tx.room(ENTRIES) >= ENTRIES / 8; i++) bench.push(bytes, most);
  } else if (what === 'flush') expect(tx.flush()).toBe(0);
  else if (what === 'land') bench.kernel.land(count, count * 7);
  else if (what === 'land chunks') bench.kernel.landChunks(count);
  else if (what === 'complete') tx.complete();
  else if (what === 'refill') bench.queue.refill();
  else bench.replace();
}

function sendAll(bench: ChainBench): void {
  for (
    let i = 0;
    bench.queue.tx.backlog || bench.queue.ledger().tx + bench.queue.ledger().completing > 0;
    i++
  ) {
    expect(i).toBeLessThan(2000);
    expect(bench.queue.tx.flush()).toBe(0);
    bench.kernel.land(ENTRIES, 0);
    bench.queue.tx.complete();
  }
}

const first = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('a transmit ring of chains', () => {
  it('sends every packet whole, once and in order, with every frame in one place, whatever the kernel answers', () => {
    fc.assert(
      fc.property(
        fc.array(fate, { maxLength: 100, size: 'max' }),
        fc.array(step, { maxLength: 60, size: 'max' }),
        fc.integer({ min: 1, max: 40 }),
        (fates, steps, batch) => {
          const bench = new ChainBench(fates, batch);
          for (const one of steps) {
            play(bench, one);
            bench.queue.tx.flush();
            bench.whole();
          }
          sendAll(bench);
          bench.whole();
          expect(bench.kernel.sent).toEqual(first(bench.pushed));
          const { txPosted, txPackets, txRetried, txErrors } = bench.counters;
          expect({ txPosted, txPackets, txErrors }).toEqual({
            ...{ txPosted: bench.pushed + txRetried, txPackets: bench.pushed, txErrors: 0 },
          });
        },
      ),
      { numRuns: 150 },
    );
  });

  it('gives back what the kernel has not sent, whole and in order, when the path goes', () => {
    fc.assert(
      fc.property(
        fc.array(fate, { maxLength: 60, size: 'max' }),
        fc.array(step, { maxLength: 40, size: 'max' }),
        fc.integer({ min: 1, max: 20 }),
        fc.nat(20),
        (fates, steps, batch, deadAfter) => {
          const bench = new ChainBench(fates, batch);
          for (const one of steps) play(bench, one);
          bench.queue.tx.flush();
          const rescued: number[] = [];
          const rescue = (offset: number, bytes: number): void => {
            rescued.push(read(bench.memory.bytes.slice(offset, offset + bytes)));
            bench.pool.setOwner(offset - bench.memory.layout.frames, bench.pool.hand);
          };
          let left = deadAfter;
          try {
            bench.queue.tx.reclaimUnsent((offset, bytes) => {
              rescue(offset, bytes);
              if (left-- === 0) throw new Death();
            });
          } catch (error) {
            if (!(error instanceof Death)) throw error;
            bench.replace();
            bench.queue.tx.reclaimUnsent(rescue);
          }
          expect([...bench.kernel.sent, ...rescued]).toEqual(first(bench.pushed));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('sends a packet from the frame it was moved to, and frees that one', () => {
    const bench = new ChainBench([], 64, 0);
    bench.push(1500);
    bench.push(60);
    const { pool, queue, memory } = bench;
    const { words, bytes, layout } = memory;
    // As recall-ring.ts does for a packet that the device has dropped.
    const slot = queue.tx.ring.slot(0);
    const from = words[slot]!;
    const home = pool.peek(0) + HEADROOM;
    bytes.copyWithin(layout.frames + home, layout.frames + from, layout.frames + from + 1500);
    pool.setOwner(home, pool.ownerOf(from));
    pool.remove(1);
    pool.put(from);
    queue.tx.moved(slot, home);
    sendAll(bench);
    bench.whole();
    expect(bench.kernel.sent).toEqual([0, 1]);
    expect(bench.counters.txPackets).toBe(2);
  });

  it('of a device without chains sends what fits a chunk in one descriptor, wherever it lies', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 60, max: ROOM }), fc.integer({ min: -240, max: 12_000 })), {
          maxLength: ENTRIES,
          size: 'max',
        }),
        (packets) => {
          const bench = new ChainBench([], 64, 0);
          for (const [bytes, shift] of packets) expect(bench.push(bytes, shift)).toBe(true);
          expect(bench.queue.tx.staged).toBe(packets.length);
          sendAll(bench);
          expect(bench.kernel.sent).toEqual(first(packets.length));
        },
      ),
      { numRuns: 50 },
    );
  });
});

/** Thrown where a worker is to die. */
class Death extends Error {}

/** Until the returned function is called, the worker dies at the `after()`th look-up of a slot, or call of the pool. */
function mortally(dies: () => boolean): () => void {
  const undo: (() => void)[] = [];
  const wrap = (prototype: object, name: string): void => {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name)!;
    const method = descriptor.value as (...values: unknown[]) => unknown;
    Object.defineProperty(prototype, name, {
      ...descriptor,
      value(this: unknown, ...values: unknown[]) {
        if (dies()) throw new Death();
        return method.apply(this, values);
      },
    });
    undo.push(() => Object.defineProperty(prototype, name, descriptor));
  };
  for (const name of ['slot', 'release']) wrap(Consumer.prototype, name);
  for (const name of ['slot', 'slotAt', 'commit']) wrap(Producer.prototype, name);
  for (const name of ['put', 'remove', 'peek', 'setOwner', 'ownerOf']) wrap(FramePool.prototype, name);
  return () => {
    for (const one of undo) one();
  };
}

describe('a worker that receives chains and sends them back', () => {
  it('gets each packet whole, leaves out what has not come whole, and keeps every frame in one place', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(length, fc.nat(2), fc.integer({ min: 1, max: 9 })), { maxLength: 60, size: 'max' }),
        (deliveries) => {
          const bench = new ChainBench();
          const { bytes, layout } = bench.memory;
          const burst = new Burst(bench.memory, 0);
          bench.queue.refill();
          const got: number[] = [];
          let delivered = 0;
          let gathered = 0;
          const receive = (most: number): void => {
            const ready = bench.queue.rx.ready(most);
            const count = bench.queue.rx.receive(burst, most);
            expect(count).toBe(ready);
            for (let i = 0; i < count; i++) {
              const offset = burst.offset[i]!;
              got.push(read(bytes.slice(offset, offset + burst.bytes[i]!)));
              bench.pool.put(offset - layout.frames);
            }
            bench.queue.rx.release();
            bench.queue.refill();
            bench.whole();
          };
          for (const [size, hidden, most] of deliveries) {
            if (bench.kernel.deliver({ number: delivered, bytes: size }, hidden)) {
              delivered++;
              if (size > ROOM) gathered++;
            }
            receive(most);
          }
          bench.kernel.publish();
          for (let i = 0; i < ENTRIES; i++) receive(2);
          expect(got).toEqual(first(delivered));
          expect(bench.counters).toMatchObject({ rxPackets: delivered, rxGathered: gathered, rxTooLong: 0 });
        },
      ),
      { numRuns: 100 },
    );
  });

  it('drops a chain that is longer than a frame, counts it, and gets those around it', () => {
    const bench = new ChainBench();
    const burst = new Burst(bench.memory, 0);
    bench.queue.refill();
    for (const [number, bytes] of [60, 20_000, 9000, 16_129].entries()) {
      expect(bench.kernel.deliver({ number, bytes })).toBe(true);
    }
    const count = bench.queue.rx.receive(burst, 64);
    expect(burst.bytes.slice(0, count)).toEqual(Int32Array.of(60, 9000));
    for (let i = 0; i < count; i++) bench.pool.put(burst.offset[i]! - bench.memory.layout.frames);
    bench.queue.rx.release();
    expect(bench.counters).toMatchObject({ rxPackets: 2, rxBytes: 9060, rxTooLong: 2, rxGathered: 1 });
    expect(bench.queue.ledger().rx).toBe(0);
    bench.whole();
  });

  it.each([
    ['a kernel with chains', length, true],
    ['a kernel that writes no options', fc.integer({ min: 60, max: ROOM }), false],
  ])('loses and doubles none, and no frame, though it dies at any moment: %s', (_, size, writesOptions) => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 12, size: 'max' }),
        fc.array(size, { minLength: 8, maxLength: 8 }),
        fc.integer({ min: 2, max: 40 }),
        (deaths, sizes, batch) => {
          const bench = new ChainBench([], batch, writesOptions ? 1 : 0);
          bench.kernel.writesOptions = writesOptions;
          const { bytes, layout } = bench.memory;
          const burst = new Burst(bench.memory, 0);
          let delivered = 0;
          const round = (queue: ChainQueue, pool: FramePool): void => {
            queue.tx.flush();
            queue.tx.complete();
            queue.refill();
            const count = queue.rx.receive(burst, Math.min(9, queue.tx.room(9)));
            for (let i = 0; i < count; i++) {
              const offset = burst.offset[i]!;
              const number = read(bytes.slice(offset, offset + burst.bytes[i]!));
              // Every fifth is dropped, the others go back.
              if (number % 5 === 4) pool.put(offset - layout.frames);
              else queue.tx.push(offset, burst.bytes[i]!);
            }
            queue.rx.release();
            queue.tx.flush();
          };
          const network = (): void => {
            bench.kernel.land(3, 1);
            for (let i = 0; i < 3; i++) {
              const packet = { number: delivered, bytes: sizes[delivered % sizes.length]! };
              if (bench.kernel.deliver(packet)) delivered++;
            }
          };
          for (const after of deaths) {
            let left = after;
            const restore = mortally(() => --left === 0);
            try {
              const pool = new FramePool(bench.memory, 0);
              const queue = bench.attach(pool);
              pool.owners.recover([queue]);
              for (let i = 0; i < 40; i++) {
                network();
                round(queue, pool);
              }
            } catch (error) {
              if (!(error instanceof Death)) throw error;
            } finally {
              restore();
            }
            bench.replace();
            bench.whole();
          }
          for (let i = 0; i < 40; i++) {
            bench.kernel.land(ENTRIES, 0);
            round(bench.queue, bench.pool);
          }
          bench.whole();
          expect(bench.kernel.sent).toEqual(first(delivered).filter((number) => number % 5 !== 4));
          expect(bench.queue.ledger()).toMatchObject({ rx: 0, tx: 0 });
        },
      ),
      { numRuns: 60 },
    );
  });
});
