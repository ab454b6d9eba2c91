import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Errno } from '../../src/errors.ts';
import { pathCounters } from '../../src/memory/counters.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { HEADROOM, Path, Ring } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryDevice, MemoryPeer } from '../../src/paths/memory/device.ts';
import { RingQueue, ringPlace } from '../../src/paths/ring-queue.ts';

const FRAMES = 256;
const ENTRIES = 32;
const BYTES = 60;

function memory(): Memory {
  return Memory.create({
    ...{
      pageSize: 4096,
      ports: 1,
      queues: 1,
      frameSize: 2048,
      framesPerWorker: FRAMES,
      ringEntries: ENTRIES,
    },
  });
}

function opened(): Memory {
  const made = memory();
  const device = new MemoryDevice(made, 0, Path.VF, 'vf');
  device.open();
  device.arm();
  return made;
}

/** What a kernel does with the packet it takes next. */
type Fate = 'sent' | 'dropped' | 'busy' | 'no buffer';

/**
 * The transmit side of AF_XDP's copy mode, K:net/xdp/xsk.c `__xsk_generic_xmit` and xsk_queue.h, 6.18: a
 * cached cursor that is published when a packet was sent, or when the cached view of the ring is empty and
 * has to be refreshed. What is dropped is completed at once, what is sent some time later.
 */
class CopyMode {
  readonly sent: number[] = [];
  gone = false;
  readonly #memory: Memory;
  readonly #fates: Iterator<Fate>;
  readonly #batch: number;
  readonly #tx: ReturnType<typeof ringPlace>;
  readonly #completion: ReturnType<typeof ringPlace>;
  readonly #flying: number[] = [];
  #cachedConsumer = 0;
  #cachedProducer = 0;

  constructor(of: Memory, fates: readonly Fate[], batch: number) {
    this.#memory = of;
    this.#fates = fates.values();
    this.#batch = batch;
    const slot = of.layout.slot(0, 0, Path.VF);
    const place = (ring: 2 | 3) => ringPlace(of, slot, of.layout.ring(0, 0, Path.VF, ring), ring);
    this.#tx = place(Ring.TX);
    this.#completion = place(Ring.COMPLETION);
    of.words[this.#tx.flags] = 1;
  }

  readonly kick = (): number => {
    if (this.gone) return Errno.ENXIO!;
    let result = 0;
    let any = false;
    for (let left = this.#batch; this.#peek(); left--) {
      // Of the batch there is no more, or no room is left to report that one more was sent.
      if (left === 0 || this.#flying.length + this.#unread() === ENTRIES) {
        result = Errno.EAGAIN!;
        break;
      }
      const { value: fate = 'sent' } = this.#fates.next();
      if (fate === 'no buffer' || fate === 'busy') {
        result = fate === 'busy' ? Errno.EAGAIN! : Errno.ENOBUFS!;
        break;
      }
      const { words, view, layout } = this.#memory;
      const descriptor = this.#tx.slots + (this.#cachedConsumer & (ENTRIES - 1)) * 4;
      const address = words[descriptor]!;
      expect(words[descriptor + 1]).toBe(0);
      expect(words[descriptor + 2]).toBe(BYTES);
      this.#cachedConsumer = (this.#cachedConsumer + 1) | 0;
      if (fate === 'dropped') {
        this.#complete(address);
        result = Errno.EBUSY!;
        break;
      }
      this.sent.push(view.getUint32(layout.frames + address));
      this.#flying.push(address);
      any = true;
    }
    if (any) this.#memory.words[this.#tx.consumer] = this.#cachedConsumer;
    return result;
  };

  /** Socket buffers are freed, in the order the device likes. */
  land(count: number, pick: number): void {
    for (let i = 0; i < count && this.#flying.length > 0; i++) {
      this.#complete(this.#flying.splice(pick % this.#flying.length, 1)[0]!);
    }
  }

  #peek(): boolean {
    const { words } = this.#memory;
    if (this.#cachedProducer === this.#cachedConsumer) {
      words[this.#tx.consumer] = this.#cachedConsumer;
      this.#cachedProducer = words[this.#tx.producer]!;
    }
    return this.#cachedProducer !== this.#cachedConsumer;
  }

  #unread(): number {
    const { words } = this.#memory;
    return (words[this.#completion.producer]! - words[this.#completion.consumer]!) | 0;
  }

  #complete(address: number): void {
    const { words } = this.#memory;
    const { producer, slots } = this.#completion;
    words[slots + (words[producer]! & (ENTRIES - 1)) * 2] = address;
    words[producer] = (words[producer]! + 1) | 0;
  }
}

/** A queue, its pool and its kernel, with packets numbered as they are pushed. */
class Bench {
  readonly memory = opened();
  readonly kernel: CopyMode;
  pool = new FramePool(this.memory, 0);
  queue: RingQueue;
  pushed = 0;
  /** Whether the device takes no large segment now. */
  refuses = false;

  constructor(fates: readonly Fate[] = [], batch = 32) {
    this.kernel = new CopyMode(this.memory, fates, batch);
    this.queue = this.attach();
    this.pool.recover([this.queue]);
  }

  attach(): RingQueue {
    return new RingQueue(this.memory, this.pool, 0, 0, Path.VF, this.kernel.kick, {
      send: (number) => {
        if (this.refuses) return false;
        this.kernel.sent.push(number);
        this.pushed++;
        return true;
      },
    });
  }

  push(count: number): void {
    for (let room = this.queue.room(count); room > 0 && this.pool.count > 0; room--) {
      const offset = this.memory.layout.frames + this.pool.peek(0) + HEADROOM;
      this.memory.view.setUint32(offset, this.pushed++);
      this.queue.push(offset, BYTES);
      this.pool.remove(1);
    }
  }

  /** Leaves half the ring free: a packet that bounces goes again only where there is a slot. */
  spare(count: number): number {
    return Math.min(count, Math.max(0, this.queue.room(ENTRIES) - ENTRIES / 2));
  }

  /** The worker dies here; another one goes on. */
  replace(): void {
    this.pool = new FramePool(this.memory, 0);
    this.queue = this.attach();
    this.pool.recover([this.queue]);
  }

  get counters() {
    const index = pathCounters(this.memory, 0, 0, Path.VF);
    const { doubles } = this.memory;
    const { txPosted, txPackets, txErrors, txRetried, txRescued } = index;
    return {
      ...{ posted: doubles[txPosted]!, packets: doubles[txPackets]!, errors: doubles[txErrors]! },
      ...{ retried: doubles[txRetried]!, rescued: doubles[txRescued]! },
    };
  }

  /** Every frame is free, in a ring, or with the kernel's socket buffers. */
  whole(): void {
    const { fill, rx, tx, completing } = this.queue.ledger();
    expect(this.pool.count + fill + rx + tx + completing).toBe(FRAMES);
    expect(this.pool.duplicates([this.queue])).toBe(0);
  }
}

const fate = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Fate>('sent') },
  { weight: 2, arbitrary: fc.constant<Fate>('dropped') },
  { weight: 1, arbitrary: fc.constantFrom<Fate>('busy', 'no buffer') },
);
const step = fc.record({
  what: fc.constantFrom('push', 'push', 'flush', 'flush', 'land', 'complete', 'refill', 'die'),
  count: fc.integer({ min: 1, max: 20 }),
});

function play(bench: Bench, { what, count }: { what: string; count: number }): void {
  if (what === 'push') bench.push(count);
  else if (what === 'flush') expect(bench.queue.flush()).toBe(0);
  else if (what === 'land') bench.kernel.land(count, count * 7);
  else if (what === 'complete') bench.queue.complete();
  else if (what === 'refill') bench.queue.refill();
  else bench.replace();
}

const ascending = (numbers: readonly number[]): boolean =>
  numbers.every((n, i) => i === 0 || n > numbers[i - 1]!);

describe('against a kernel that drops, is busy or has no buffers, in a ring that has room', () => {
  it('every packet is sent once and in order, with every frame in one place', () => {
    fc.assert(
      fc.property(
        fc.array(fate, { maxLength: 150 }),
        fc.array(step, { maxLength: 80 }),
        fc.integer({ min: 1, max: 40 }),
        (fates, steps, batch) => {
          const bench = new Bench(fates, batch);
          for (const one of steps) {
            play(bench, one.what === 'push' ? { ...one, count: bench.spare(one.count) } : one);
            bench.queue.flush();
            bench.whole();
          }
          for (let i = 0; bench.queue.backlog || bench.queue.inFlight() > 0; i++) {
            expect(i).toBeLessThan(2000);
            bench.queue.flush();
            bench.kernel.land(ENTRIES, 0);
            bench.queue.complete();
          }
          bench.whole();
          expect(bench.kernel.sent).toEqual(Array.from({ length: bench.pushed }, (_, i) => i));
          const { posted, packets, errors, retried } = bench.counters;
          expect(errors).toBe(0);
          expect(posted).toBe(bench.pushed + retried);
          expect(bench.queue.ledger()).toMatchObject({ tx: 0, completing: 0 });
          expect(packets).toBeGreaterThanOrEqual(bench.pushed);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('a large segment goes uncut behind all that was pushed before, or is pushed itself', () => {
    fc.assert(
      fc.property(
        fc.array(fate, { maxLength: 100 }),
        fc.array(fc.oneof(step, fc.record({ what: fc.constant('segment'), count: fc.nat({ max: 3 }) })), {
          maxLength: 80,
        }),
        fc.integer({ min: 1, max: 8 }),
        (fates, steps, batch) => {
          const bench = new Bench(fates, batch);
          let uncut = 0;
          for (const { what, count } of steps) {
            bench.refuses = count === 0;
            if (what !== 'segment')
              play(bench, { what, count: what === 'push' ? bench.spare(count) : count });
            else if (bench.queue.sendSegment(bench.pushed, 0, 0)) uncut++;
            else bench.push(bench.spare(1));
            bench.whole();
          }
          for (let i = 0; bench.queue.inFlight() > 0; i++) {
            expect(i).toBeLessThan(2000);
            bench.queue.flush();
            bench.kernel.land(ENTRIES, 0);
            bench.queue.complete();
          }
          expect(bench.kernel.sent).toEqual(Array.from({ length: bench.pushed }, (_, i) => i));
          expect(bench.counters.posted).toBe(bench.pushed - uncut + bench.counters.retried);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('what it has not taken is given back in order, when the path goes', () => {
    fc.assert(
      fc.property(fc.array(fate, { maxLength: 60 }), fc.array(step, { maxLength: 40 }), (fates, steps) => {
        const bench = new Bench(fates, 16);
        for (const one of steps) {
          play(bench, one.what === 'push' ? { ...one, count: bench.spare(one.count) } : one);
        }
        bench.queue.flush();
        const rescued: number[] = [];
        const count = bench.queue.takeBack((offset, bytes) => {
          expect(bytes).toBe(BYTES);
          rescued.push(bench.memory.view.getUint32(offset));
        });
        expect(rescued).toHaveLength(count);
        expect(bench.counters.rescued).toBe(count);
        const all = [...bench.kernel.sent, ...rescued];
        expect(all).toEqual(Array.from({ length: bench.pushed }, (_, i) => i));
      }),
      { numRuns: 150 },
    );
  });
});

it('counts a packet that bounces off a full ring, and keeps all others', () => {
  fc.assert(
    fc.property(fc.array(fate, { maxLength: 200 }), fc.array(step, { maxLength: 80 }), (fates, steps) => {
      const bench = new Bench(fates, 64);
      for (const one of steps) {
        play(bench, one);
        bench.whole();
      }
      for (let i = 0; bench.queue.backlog || bench.queue.inFlight() > 0; i++) {
        expect(i).toBeLessThan(2000);
        bench.queue.flush();
        bench.kernel.land(ENTRIES, 0);
        bench.queue.complete();
      }
      expect(ascending(bench.kernel.sent)).toBe(true);
      expect(bench.kernel.sent.length + bench.counters.errors).toBe(bench.pushed);
    }),
    { numRuns: 150 },
  );
});

it('kicks a device that is gone once, says so at every flush, and keeps what is pushed', () => {
  const bench = new Bench();
  let kicks = 0;
  bench.queue = new RingQueue(bench.memory, bench.pool, 0, 0, Path.VF, () => {
    kicks++;
    return Errno.ENXIO!;
  });
  bench.push(3);
  expect(bench.queue.flush()).toBe(Errno.ENXIO);
  bench.push(2);
  expect(bench.queue.flush()).toBe(Errno.ENXIO);
  expect(kicks).toBe(1);
  const rescued: number[] = [];
  bench.queue.takeBack((offset) => rescued.push(bench.memory.view.getUint32(offset)));
  expect(rescued).toEqual([0, 1, 2, 3, 4]);
});

/** Thrown where a worker is to die. */
class Death extends Error {}

const MORTAL = new Set(['give', 'put', 'remove', 'peek']);

/** A pool at one of whose calls the worker dies, before or after it has done what was asked. */
function mortal(pool: FramePool, calls: number, after: boolean): FramePool {
  let left = calls;
  return new Proxy(pool, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      if (!MORTAL.has(String(name))) return value.bind(target);
      return (...values: unknown[]) => {
        const dies = --left === 0;
        if (dies && !after) throw new Death();
        const result: unknown = value.apply(target, values);
        if (dies) throw new Death();
        return result;
      };
    },
  });
}

it('a worker that dies at any moment leaves no frame in two places or in none, and no packet twice', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 150 }), fc.boolean()), { maxLength: 12 }),
      (deaths) => {
        const shared = opened();
        const { view, layout, words } = shared;
        const peer = MemoryPeer.attach(shared, 0, 0, Path.VF)!;
        const offsets = new Int32Array(64);
        const lengths = new Int32Array(64);
        const back: number[] = [];
        let sent = 0;
        let pool = new FramePool(shared, 0);
        const open = (from: FramePool): RingQueue => new RingQueue(shared, from, 0, 0, Path.VF, () => 0);
        pool.recover([open(pool)]);

        const round = (queue: RingQueue, from: FramePool): void => {
          queue.flush();
          queue.complete();
          queue.refill();
          const room = queue.room(16);
          const count = queue.receive(offsets, lengths, Math.min(16, room));
          for (let i = 0; i < count; i++) {
            // Every fifth is dropped, the others go back.
            if (view.getUint32(offsets[i]!) % 5 === 4) from.put(offsets[i]! - layout.frames);
            else queue.push(offsets[i]!, lengths[i]!);
          }
          queue.release();
          queue.flush();
        };
        const network = (): void => {
          peer.collect(64, (offset) => back.push(view.getUint32(offset)));
          peer.deliver(8, (offset) => {
            view.setUint32(offset, sent++);
            return BYTES;
          });
        };
        const recovered = (): RingQueue => {
          pool = new FramePool(shared, 0);
          const queue = open(pool);
          pool.recover([queue]);
          const { fill, rx, tx, completing } = queue.ledger();
          expect(pool.count + fill + rx + tx + completing).toBe(FRAMES);
          expect(pool.duplicates([queue])).toBe(0);
          return queue;
        };
        for (const [calls, after] of deaths) {
          recovered();
          const dying = mortal(new FramePool(shared, 0), calls, after);
          try {
            const queue = open(dying);
            for (let i = 0; i < 40; i++) {
              network();
              round(queue, dying);
            }
          } catch (error) {
            if (!(error instanceof Death)) throw error;
          }
          network();
        }
        const queue = recovered();
        for (let i = 0; i < 20; i++) {
          peer.collect(64, (offset) => back.push(view.getUint32(offset)));
          round(queue, pool);
        }
        expect(ascending(back)).toBe(true);
        expect(back).toEqual(Array.from({ length: sent }, (_, i) => i).filter((i) => i % 5 !== 4));
        expect(words[layout.worker(0) >> 2]).toBe(pool.count);
      },
    ),
    { numRuns: 150 },
  );
});

it('gives back what was staged and never flushed as well, when the path goes', () => {
  const shared = opened();
  const pool = new FramePool(shared, 0);
  const queue = new RingQueue(shared, pool, 0, 0, Path.VF, () => 0);
  pool.recover([queue]);
  const take = (): number => {
    const address = pool.peek(0);
    pool.give(address, pool.hand);
    pool.remove(1);
    return shared.layout.frames + address + HEADROOM;
  };
  const offsets = [take(), take(), take()];
  queue.push(offsets[0]!, BYTES);
  queue.flush();
  // Another port of the same worker forwards, and then the order comes.
  queue.push(offsets[1]!, BYTES);
  queue.push(offsets[2]!, BYTES);
  const back: number[] = [];
  expect(queue.takeBack((offset) => back.push(offset))).toBe(3);
  expect(back).toEqual(offsets);
  const counter = pathCounters(shared, 0, 0, Path.VF);
  expect([shared.doubles[counter.txPosted], shared.doubles[counter.txRescued]]).toEqual([3, 3]);
});

it('kicks until all is taken before a large segment, however few packets the kernel takes at once', () => {
  const bench = new Bench([], 4);
  bench.push(ENTRIES / 2);
  expect(bench.queue.sendSegment(bench.pushed, 0, 0)).toBe(true);
  expect(bench.kernel.sent).toEqual(Array.from({ length: ENTRIES / 2 + 1 }, (_, i) => i));
});

it('gives a device that is gone no large segment while packets wait for it', () => {
  const bench = new Bench();
  bench.kernel.gone = true;
  bench.push(1);
  expect(bench.queue.sendSegment(bench.pushed, 0, 0)).toBe(false);
  expect(bench.kernel.sent).toEqual([]);
});
