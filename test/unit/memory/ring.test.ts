import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Consumer, Producer, type RingPlace } from '../../../src/memory/ring.ts';

/** Word indices far apart, as the real rings have them, with a guard before and behind the slots. */
const PLACE = { producer: 0, consumer: 32, flags: 64, slots: 100 };
const GUARD = 0x6a6a6a6a;
/** Where a counter of 32 bits changes its sign, its size in JavaScript, or begins again. */
const STARTS = [0, 1, 0x7fff_fffd, 0xffff_fffc, 0xfffd];

interface Ends {
  words: Int32Array;
  place: RingPlace;
  producer: Producer;
  consumer: Consumer;
}

function ends(start: number, entries: number, slotWords: number): Ends {
  const buffer = new SharedArrayBuffer(4 * (PLACE.slots + entries * slotWords + 8));
  const words = new Int32Array(buffer).fill(GUARD);
  const place = { ...PLACE, entries, slotWords };
  words[PLACE.flags] = 0;
  words[PLACE.consumer] = start | 0;
  words[PLACE.producer] = start | 0;
  return {
    words,
    place,
    producer: new Producer(words, place),
    consumer: new Consumer(words, place),
  };
}

/** The slow model: what lies in the ring, oldest first, and how much was ever written and read. */
interface Model {
  inside: number[];
  next: number;
  taken: number;
}

type Step = fc.Command<Model, Ends>;

const produce = (wanted: number, used: number): Step => ({
  check: () => true,
  run(model, { producer, words, place }) {
    const free = place.entries - model.inside.length;
    const granted = producer.reserve(wanted);
    expect(granted).toBe(Math.min(wanted, free));
    // Written but not committed, the rest must not be seen.
    for (let i = 0; i < granted; i++) words[producer.slot(i)] = model.next + i;
    const count = Math.min(used, granted);
    producer.commit(count);
    for (let i = 0; i < count; i++) model.inside.push(model.next++);
  },
  toString: () => `produce ${used} of ${wanted}`,
});

const consume = (wanted: number, used: number): Step => ({
  check: () => true,
  run(model, { consumer, words }) {
    const ready = consumer.peek(wanted);
    expect(ready).toBe(Math.min(wanted, model.inside.length));
    const read = Array.from({ length: ready }, (_, i) => words[consumer.slot(i)]);
    expect(read).toEqual(model.inside.slice(0, ready));
    const count = Math.min(used, ready);
    consumer.release(count);
    model.inside.splice(0, count);
    model.taken += count;
  },
  toString: () => `consume ${used} of ${wanted}`,
});

const look: Step = {
  check: () => true,
  run(model, { producer, consumer, words }) {
    expect(producer.pending()).toBe(model.inside.length);
    expect(consumer.pending()).toBe(model.inside.length);
    const kept = model.inside.map((_, i) => words[producer.pendingSlot(i)]);
    expect(kept).toEqual(model.inside);
    expect((producer.cursor - consumer.cursor) | 0).toBe(model.inside.length);
  },
  toString: () => 'look',
};

const takeOver: Step = {
  check: () => true,
  run(_, ring) {
    const { words, place } = ring;
    ring.producer = new Producer(words, place);
    ring.consumer = new Consumer(words, place);
  },
  toString: () => 'take over',
};

const amount = fc.nat(20);
const playing = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(amount, amount).map(([wanted, used]) => produce(wanted, used)) },
  { weight: 4, arbitrary: fc.tuple(amount, amount).map(([wanted, used]) => consume(wanted, used)) },
  { weight: 1, arbitrary: fc.constant(look) },
);
const withTakeOver = fc.oneof(
  { weight: 9, arbitrary: playing },
  { weight: 1, arbitrary: fc.constant(takeOver) },
);

function guarded({ words, place }: Ends): boolean {
  const last = place.slots + place.entries * place.slotWords;
  return (
    words.subarray(65, place.slots).every((word) => word === GUARD) &&
    words.subarray(last).every((word) => word === GUARD)
  );
}

describe('a ring', () => {
  it('is a queue of bounded size from any start, also when its ends are taken over', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...STARTS),
        fc.constantFrom(1, 2, 8, 16),
        fc.constantFrom(2, 4, 16),
        fc.commands([withTakeOver], { maxCommands: 60 }),
        (start, entries, slotWords, steps) => {
          const ring = ends(start, entries, slotWords);
          fc.modelRun(() => ({ model: { inside: [], next: 0, taken: 0 }, real: ring }), steps);
          expect(guarded(ring)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it.each(STARTS)('carries its cursors from %i over the edge and beyond', (start) => {
    const { producer, consumer, words } = ends(start, 4, 4);
    for (let i = 0; i < 20; i++) {
      const count = 1 + (i % 4);
      expect(producer.reserve(9)).toBe(4);
      for (let k = 0; k < count; k++) words[producer.slot(k)] = i * 10 + k;
      producer.commit(count);
      expect(consumer.peek(9)).toBe(count);
      for (let k = 0; k < count; k++) expect(words[consumer.slot(k)]).toBe(i * 10 + k);
      consumer.release(count);
    }
    expect(producer.cursor).toBe((start + 50) | 0);
    expect([words[PLACE.producer], words[PLACE.consumer]]).toEqual([producer.cursor, producer.cursor]);
  });

  it('discards staged, uncommitted slots when its producer is taken over', () => {
    const ring = ends(0x7fff_fffe, 8, 2);
    ring.producer.commit(ring.producer.reserve(3));
    ring.words[ring.producer.slot(0)] = 1;
    const next = new Producer(ring.words, ring.place);
    expect(next.pending()).toBe(3);
    expect(next.reserve(8)).toBe(5);
    expect(next.slot(0)).toBe(ring.producer.slot(0));
  });

  it('offers read, unreleased slots again when its consumer is taken over', () => {
    const ring = ends(0xffff_fffe, 8, 2);
    ring.producer.commit(ring.producer.reserve(5));
    ring.consumer.release(ring.consumer.peek(2));
    expect(ring.consumer.peek(8)).toBe(3);
    const next = new Consumer(ring.words, ring.place);
    expect(next.peek(8)).toBe(3);
    expect(next.slot(0)).toBe(ring.consumer.slot(0));
  });

  it('reloads the other cursor only when the one it knows says no', () => {
    const { producer, consumer, words } = ends(0, 8, 2);
    producer.commit(producer.reserve(8));
    expect(consumer.peek(1)).toBe(1);
    words[PLACE.producer] = 100; // a lie, which nobody has a reason to look at
    expect(consumer.peek(8)).toBe(8);
  });

  it('asks to be woken by the lowest bit of its flags', () => {
    const { producer, words } = ends(0, 8, 2);
    expect(producer.needWakeup).toBe(false);
    words[PLACE.flags] = 6;
    expect(producer.needWakeup).toBe(false);
    words[PLACE.flags] = 1;
    expect(producer.needWakeup).toBe(true);
  });
});

describe('a ring between two threads', () => {
  it.each([0x7fff_ff00, 0xffff_ff00])(
    'loses, repeats and tears nothing, from %i',
    async (start) => {
      const items = 200_000;
      const { words, place } = ends(start, 8, 4);
      const workers = (['producer', 'consumer'] as const).map(
        (end) =>
          new Worker(new URL('../../fixtures/ring-end.mjs', import.meta.url), {
            workerData: { buffer: words.buffer, place, items, end },
          }),
      );
      const answers = workers.map(async (worker) => (await once(worker, 'message'))[0]);
      try {
        expect(await Promise.all(answers)).toEqual([
          { done: items, wrong: 0 },
          { done: items, wrong: 0 },
        ]);
        expect(words[PLACE.consumer]).toBe((start + items) | 0);
      } finally {
        await Promise.all(workers.map((worker) => worker.terminate()));
      }
    },
    30_000,
  );
});
