import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { pathCounters } from '../../../src/memory/counters.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Doubt, HEADROOM, Path, Reader, Ring } from '../../../src/memory/layout.ts';
import { ringPlace } from '../../../src/memory/requests.ts';
import type { Memory } from '../../../src/memory/shared.ts';
import { XskQueue } from '../../../src/paths/af-xdp/queue.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import type { RingQueue } from '../../../src/paths/ring-queue.ts';
import {
  ascending,
  Bench,
  BYTES,
  ENTRIES,
  type Fate,
  FRAMES,
  opened,
  VERSIONS,
} from '../../models/copy-mode.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

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
  else if (what === 'flush') expect(bench.queue.tx.flush()).toBe(0);
  else if (what === 'land') bench.kernel.land(count, count * 7);
  else if (what === 'complete') bench.queue.tx.complete();
  else if (what === 'refill') bench.queue.refill();
  else bench.replace();
}

/** The same, leaving room for a packet that goes again. */
const playWithRoom = (bench: Bench, { what, count }: { what: string; count: number }): void =>
  play(bench, { what, count: what === 'push' ? bench.spare(count) : count });

describe.each(VERSIONS)(
  'against Linux %s that drops, is busy or has no buffers, in a ring that has room',
  (version) => {
    it('every packet is sent once and in order, with every frame in one place', () => {
      fc.assert(
        fc.property(
          fc.array(fate, { maxLength: 150 }),
          fc.array(step, { maxLength: 80 }),
          fc.integer({ min: 1, max: 40 }),
          (fates, steps, batch) => {
            const bench = new Bench(fates, batch, version);
            for (const one of steps) {
              playWithRoom(bench, one);
              bench.queue.tx.flush();
              bench.whole();
            }
            for (let i = 0; bench.queue.tx.backlog || bench.inFlight > 0; i++) {
              expect(i).toBeLessThan(2000);
              bench.queue.tx.flush();
              bench.kernel.land(ENTRIES, 0);
              bench.queue.tx.complete();
            }
            bench.whole();
            const { posted, packets, retried } = bench.counters;
            bench.sentAll();
            expect(posted).toBe(bench.pushed + retried);
            expect(bench.queue.ledger()).toMatchObject({ tx: 0, completing: 0 });
            expect(packets + bench.counters.errors).toBeGreaterThanOrEqual(bench.pushed);
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
            const bench = new Bench(fates, batch, version);
            let uncut = 0;
            for (const { what, count } of steps) {
              bench.refuses = count === 0;
              if (what !== 'segment') playWithRoom(bench, { what, count });
              else if (bench.queue.tx.sendSegment(bench.pushed, 0, 0)) uncut++;
              else bench.push(bench.spare(1));
              bench.whole();
            }
            for (let i = 0; bench.inFlight > 0; i++) {
              expect(i).toBeLessThan(2000);
              bench.queue.tx.flush();
              bench.kernel.land(ENTRIES, 0);
              bench.queue.tx.complete();
            }
            bench.sentAll();
            expect(bench.counters.posted).toBe(bench.pushed - uncut + bench.counters.retried);
          },
        ),
        { numRuns: 150 },
      );
    });

    it('what it has not taken is given back in order, when the path goes', () => {
      fc.assert(
        fc.property(fc.array(fate, { maxLength: 60 }), fc.array(step, { maxLength: 40 }), (fates, steps) => {
          const bench = new Bench(fates, 16, version);
          for (const one of steps) {
            playWithRoom(bench, one);
          }
          bench.queue.tx.flush();
          const rescued: number[] = [];
          const count = bench.queue.tx.reclaimUnsent((offset, bytes) => {
            expect(bytes).toBe(BYTES);
            rescued.push(bench.memory.view.getUint32(offset));
          });
          expect(rescued).toHaveLength(count);
          expect(bench.counters.rescued).toBe(count);
          bench.sentAll(rescued);
        }),
        { numRuns: 150 },
      );
    });
  },
);

it('a ring queue wakes a zero-copy driver once for its first frames, and later only if the driver asks', () => {
  const { memory, pool } = new Bench();
  const { words } = memory;
  const slot = memory.slot({ port: 0, queue: 0, path: Path.VF });
  const fill = ringPlace(memory, { port: 0, queue: 0, path: Path.VF }, Ring.FILL);
  const calls: string[] = [];
  const answers = [Errno.EAGAIN, Errno.EBUSY, Errno.ENETDOWN];
  const end = {
    // The kernel wakes for the fill ring only who has asked, and for the transmit ring at first in any case.
    wake: () => calls.push('wake'),
    kick: () => {
      calls.push('kick');
      return answers.shift() ?? 0;
    },
  };
  const queue = (reader: number): XskQueue => {
    slot.reader = reader;
    return new XskQueue(memory, pool, { port: 0, queue: 0, path: Path.VF }, end);
  };
  queue(Reader.ASKED).refill();
  expect(calls).toEqual([]);
  const driven = queue(Reader.DRIVER);
  for (let i = 0; i < 5; i++) driven.refill();
  expect(calls).toEqual(['kick', 'kick', 'kick']);
  words[fill.flags] = 1;
  driven.refill();
  expect(calls).toEqual(['kick', 'kick', 'kick', 'wake']);
});

it.each(VERSIONS)(
  'counts a packet that bounces off a full ring, and keeps all others: Linux %s',
  (version) => {
    fc.assert(
      fc.property(fc.array(fate, { maxLength: 200 }), fc.array(step, { maxLength: 80 }), (fates, steps) => {
        const bench = new Bench(fates, 64, version);
        for (const one of steps) {
          play(bench, one);
          bench.whole();
        }
        for (let i = 0; bench.queue.tx.backlog || bench.inFlight > 0; i++) {
          expect(i).toBeLessThan(2000);
          bench.queue.tx.flush();
          bench.kernel.land(ENTRIES, 0);
          bench.queue.tx.complete();
        }
        expect(ascending(bench.kernel.sent)).toBe(true);
        expect(bench.kernel.sent.length + bench.counters.errors).toBe(bench.pushed);
      }),
      { numRuns: 150 },
    );
  },
);

it('a ring queue kicks a removed device once, returns ENXIO at every flush, and keeps what is pushed', () => {
  const bench = new Bench();
  let kicks = 0;
  const kick = (): number => {
    kicks++;
    return Errno.ENXIO;
  };
  bench.queue = new XskQueue(bench.memory, bench.pool, { port: 0, queue: 0, path: Path.VF }, { kick });
  bench.push(3);
  expect(bench.queue.tx.flush()).toBe(Errno.ENXIO);
  bench.push(2);
  expect(bench.queue.tx.flush()).toBe(Errno.ENXIO);
  expect(kicks).toBe(1);
  const rescued: number[] = [];
  bench.queue.tx.reclaimUnsent((offset) => rescued.push(bench.memory.view.getUint32(offset)));
  expect(rescued).toEqual([0, 1, 2, 3, 4]);
});

/** Thrown where a worker is to die. */
class Death extends Error {}

const ADDRESS = { port: 0, queue: 0, path: Path.VF } as const;
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

it.each([
  ['of a kernel', (memory, pool) => new XskQueue(memory, pool, ADDRESS, { kick: () => 0 })],
  ['in memory', (memory, pool) => memoryQueue(memory, pool, ADDRESS)],
] satisfies [string, (memory: Memory, pool: FramePool) => RingQueue][])(
  'a worker that dies at any moment leaves no frame in two places or in none, and no packet twice: rings %s',
  (_, made) => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 150 }), fc.boolean()), { maxLength: 12 }),
        (deaths) => {
          const shared = opened();
          const { view, layout, words } = shared;
          const peer = MemoryPeer.attach(shared, 0, 0, Path.VF)!;
          const burst = new Burst(shared, 0);
          const { offset: offsets, bytes: lengths } = burst;
          const back: number[] = [];
          let sent = 0;
          let pool = new FramePool(shared, 0);
          const open = (from: FramePool): RingQueue => made(shared, from);
          pool.owners.recover([open(pool)]);

          const round = (queue: RingQueue, from: FramePool): void => {
            queue.tx.flush();
            queue.tx.complete();
            queue.refill();
            const room = queue.tx.room(16);
            const count = queue.rx.receive(burst, Math.min(16, room));
            for (let i = 0; i < count; i++) {
              // Every fifth is dropped, the others go back.
              if (view.getUint32(offsets[i]!) % 5 === 4) from.put(offsets[i]! - layout.frames);
              else queue.tx.push(offsets[i]!, lengths[i]!);
            }
            queue.rx.release();
            queue.tx.flush();
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
            pool.owners.recover([queue]);
            const { fill, rx, tx, completing } = queue.ledger();
            expect(pool.count + fill + rx + tx + completing).toBe(FRAMES);
            expect(pool.owners.duplicates([queue])).toBe(0);
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
  },
);

it('a ring queue gives back packets that were staged but not flushed when the path goes', () => {
  const shared = opened();
  const pool = new FramePool(shared, 0);
  const queue = new XskQueue(shared, pool, { port: 0, queue: 0, path: Path.VF }, { kick: () => 0 });
  pool.owners.recover([queue]);
  const take = (): number => {
    const address = pool.peek(0);
    pool.setOwner(address, pool.hand);
    pool.remove(1);
    return shared.layout.frames + address + HEADROOM;
  };
  const offsets = [take(), take(), take()];
  queue.tx.push(offsets[0]!, BYTES);
  queue.tx.flush();
  // Another port of the same worker forwards, and then the order comes.
  queue.tx.push(offsets[1]!, BYTES);
  queue.tx.push(offsets[2]!, BYTES);
  const back: number[] = [];
  expect(queue.tx.reclaimUnsent((offset) => back.push(offset))).toBe(3);
  expect(back).toEqual(offsets);
  const counter = pathCounters(shared, 0, 0, Path.VF);
  expect([shared.doubles[counter.txPosted], shared.doubles[counter.txRescued]]).toEqual([3, 3]);
});

it('a ring queue kicks until the kernel has taken all packets before a large segment', () => {
  const bench = new Bench([], 4);
  bench.push(ENTRIES / 2);
  expect(bench.queue.tx.sendSegment(bench.pushed, 0, 0)).toBe(true);
  expect(bench.kernel.sent).toEqual(Array.from({ length: ENTRIES / 2 + 1 }, (_, i) => i));
});

it.each(VERSIONS)(
  'a ring queue that closes has counted every completed packet as sent or dropped: Linux %s',
  (version) => {
    const bench = new Bench(['sent', 'dropped', 'sent', 'dropped'], 32, version);
    bench.push(6);
    for (let kick = 0; kick < 8; kick++) {
      bench.queue.tx.flush();
      bench.kernel.land(ENTRIES, 0);
    }
    bench.queue.detach();
    expect(bench.inFlight).toBe(0);
    expect(bench.counters).toMatchObject({ posted: 8, packets: 6, retried: 2, errors: 0 });
  },
);

it('a ring queue sends no large segment to a removed device while packets wait for it', () => {
  const bench = new Bench();
  bench.kernel.gone = true;
  bench.push(1);
  expect(bench.queue.tx.sendSegment(bench.pushed, 0, 0)).toBe(false);
  expect(bench.kernel.sent).toEqual([]);
});

/** Flushes once a millisecond until nothing is under way or the path has failed; what `flush` said last. */
function drain(bench: Bench, most = 20_000): number {
  for (let i = 0; bench.queue.tx.backlog || bench.inFlight > 0; i++) {
    expect(i).toBeLessThan(most);
    bench.kernel.now++;
    const result = bench.queue.tx.flush();
    if (result < 0) return result;
    bench.answer();
    bench.kernel.land(ENTRIES, 0);
    bench.queue.tx.complete();
  }
  return 0;
}

function takenBack(bench: Bench): number[] {
  const numbers: number[] = [];
  bench.queue.tx.reclaimUnsent((offset) => numbers.push(bench.memory.view.getUint32(offset)));
  return numbers;
}

describe('a packet that the device drops however often it is given it', () => {
  it.each(VERSIONS)('is given up and counted, and those behind it go, in order: Linux %s', (version) => {
    const runs = fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 1, max: 6 })), {
      maxLength: 20,
    });
    fc.assert(
      fc.property(
        runs,
        fc.array(fate, { maxLength: 60 }),
        fc.integer({ min: 1, max: 40 }),
        (runs, fates, batch) => {
          const bench = new Bench(fates, batch, version);
          const poison = new Set<number>();
          let number = 0;
          for (const [bad, good] of runs) {
            for (let i = 0; i < bad; i++) poison.add(number++);
            number += good;
          }
          bench.kernel.poison = (packet) => poison.has(packet);
          while (bench.pushed < number) {
            bench.push(bench.spare(Math.min(7, number - bench.pushed)));
            expect(bench.queue.tx.flush()).toBe(0);
            bench.answer();
            bench.kernel.now += 5;
            bench.kernel.land(ENTRIES, 0);
            bench.queue.tx.complete();
            bench.whole();
          }
          expect(drain(bench)).toBe(0);
          bench.whole();
          const all = Array.from({ length: number }, (_, i) => i);
          expect(bench.kernel.sent).toEqual(all.filter((packet) => !poison.has(packet)));
          const { posted, packets, errors, retried } = bench.counters;
          expect({ posted, packets, errors }).toEqual({
            posted: number + retried,
            packets: number - poison.size,
            errors: poison.size,
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  it('has a quarter of a second first, and ever less when others like it follow and those between them go', () => {
    const bench = new Bench();
    bench.kernel.poison = (packet) => packet % 2 === 0;
    const took: number[] = [];
    for (let i = 0; i < 12; i++) {
      const before = bench.kernel.now;
      bench.push(2);
      drain(bench);
      took.push(bench.kernel.now - before);
    }
    expect(took[0]).toBeGreaterThanOrEqual(250);
    expect(took.every((millis, i) => i === 0 || millis <= took[i - 1]!)).toBe(true);
    expect(took.at(-1)).toBeLessThan(5);
    bench.kernel.now += 10_000; // long after
    const before = bench.kernel.now;
    bench.push(2);
    drain(bench);
    expect(bench.kernel.now - before).toBeGreaterThanOrEqual(250);
    expect(bench.counters.errors).toBe(13);
  });

  it.each([
    ['has a link', Doubt.LINKED, 250],
    ['may have lost its link', Doubt.ASKED, 1500],
  ])('is given up sooner where it is known that the device %s, which is asked once', (_, answer, millis) => {
    const bench = new Bench();
    const { words } = bench.memory;
    const doubt = bench.memory.slot({ port: 0, queue: 0, path: Path.VF }).at('doubt');
    bench.kernel.poison = (packet) => packet === 0;
    bench.push(2);
    const asked: number[] = [];
    for (; bench.counters.errors === 0; bench.kernel.now++) {
      expect(bench.kernel.now).toBeLessThan(3000);
      bench.queue.tx.flush();
      bench.queue.tx.complete();
      if (!bench.takeDoubt()) continue;
      asked.push(bench.kernel.now);
      expect(words[doubt]).toBe(Doubt.ASKED);
      words[doubt] = answer;
    }
    expect(asked).toEqual([20]);
    expect(bench.kernel.now - 1).toBe(millis);
  });

  it('is kept as long as the device is only going: the next path gets it, in its place', () => {
    const bench = new Bench();
    bench.push(3);
    bench.queue.tx.flush();
    bench.kernel.poison = (packet) => packet > 2;
    bench.push(5);
    for (let i = 0; i < 249; i++) {
      bench.kernel.now++;
      expect(bench.queue.tx.flush()).toBe(0);
    }
    expect(takenBack(bench)).toEqual([3, 4, 5, 6, 7]);
    expect(bench.counters.errors).toBe(0);
  });

  it.each([4, 5, 15])(
    'is the fourth of %i with none sent between them: then the device has failed',
    (count) => {
      const bench = new Bench();
      bench.kernel.poison = (packet) => packet > 1;
      bench.push(2 + count);
      expect(drain(bench)).toBe(Errno.EBUSY);
      expect(bench.queue.tx.flush()).toBe(Errno.EBUSY);
      expect(bench.kernel.sent).toEqual([0, 1]);
      expect(bench.counters.errors).toBe(3);
      expect(takenBack(bench)).toEqual(Array.from({ length: count - 3 }, (_, i) => 5 + i));
      bench.kernel.land(ENTRIES, 0);
      bench.queue.tx.complete();
      const { posted, packets, errors, retried, rescued } = bench.counters;
      expect(posted).toBe(packets + errors + retried + rescued);
    },
  );
});

describe('a kick that ends the same way however often it is made', () => {
  /** A queue whose device answers that and takes nothing, with three packets in it. */
  function stuck(result: number, flags = 1): { bench: Bench; queue: XskQueue; kicks: () => number } {
    const bench = new Bench();
    let kicks = 0;
    const kick = (): number => {
      kicks++;
      return result;
    };
    bench.queue = new XskQueue(
      bench.memory,
      bench.pool,
      { port: 0, queue: 0, path: Path.VF },
      {
        kick,
        millis: bench.kernel.millis,
      },
    );
    const at = ringPlace(bench.memory, { port: 0, queue: 0, path: Path.VF }, Ring.TX).flags;
    bench.memory.words[at] = flags;
    bench.push(3);
    return { bench, queue: bench.queue, kicks: () => kicks };
  }

  it.each([
    ['EAGAIN', Errno.EAGAIN, Errno.EAGAIN],
    ['ENOBUFS', Errno.ENOBUFS, Errno.ENOBUFS],
    ['ENOMEM', Errno.ENOMEM, Errno.ENOMEM],
    ['no error', 0, Errno.ETIMEDOUT],
  ])(
    'with %s has a second, and then the path has failed and its packets are taken back',
    (_, result, said) => {
      const { bench, queue } = stuck(result);
      for (let i = 0; i < 1000; i++) {
        expect(queue.tx.flush()).toBe(0);
        bench.kernel.now++;
      }
      expect(queue.tx.flush()).toBe(said);
      expect(takenBack(bench)).toEqual([0, 1, 2]);
      expect(bench.counters).toMatchObject({ posted: 3, rescued: 3, errors: 0 });
    },
  );

  it.each(['EINVAL', 'EMSGSIZE', 'EPERM', 'ENETDOWN', 'ENXIO', 'EPIPE'] as const)(
    'with %s has failed at once, and its packets are taken back',
    (name) => {
      const { bench, queue, kicks } = stuck(Errno[name] ?? -32);
      expect(queue.tx.flush()).toBe(Errno[name] ?? -32);
      expect(kicks()).toBe(1);
      expect(takenBack(bench)).toEqual([0, 1, 2]);
    },
  );

  it('has not failed because its thread had no CPU for a minute', () => {
    const { bench, queue } = stuck(Errno.EAGAIN);
    for (let i = 0; i < 15; i++) {
      expect(queue.tx.flush()).toBe(0);
      bench.kernel.now += 60_000;
    }
    expect(queue.tx.flush()).toBe(Errno.EAGAIN);
  });

  it('fails as well where the driver sends by itself and does not', () => {
    const { bench, queue, kicks } = stuck(0, 0);
    for (let i = 0; i < 1000; i++) {
      queue.tx.flush();
      bench.kernel.now += 2;
    }
    expect(queue.tx.flush()).toBe(Errno.ETIMEDOUT);
    expect(kicks()).toBe(0);
  });

  it('says nothing of a packet where the driver sends by itself: EBUSY leaves the ring as it is', () => {
    const bench = new Bench();
    bench.memory.slot({ port: 0, queue: 0, path: Path.VF }).reader = Reader.DRIVER;
    const { millis } = bench.kernel;
    bench.queue = new XskQueue(
      bench.memory,
      bench.pool,
      { port: 0, queue: 0, path: Path.VF },
      {
        kick: () => Errno.EBUSY,
        millis,
      },
    );
    bench.push(3);
    const tx = ringPlace(bench.memory, { port: 0, queue: 0, path: Path.VF }, Ring.TX);
    const ring = () => bench.memory.words.slice(tx.slots, tx.slots + 4 * ENTRIES);
    expect(bench.queue.tx.flush()).toBe(0);
    const before = ring();
    for (let i = 1; i < 1000; i++) {
      bench.kernel.now++;
      expect(bench.queue.tx.flush()).toBe(0);
    }
    expect(ring()).toEqual(before);
    bench.kernel.now++;
    expect(bench.queue.tx.flush()).toBe(Errno.EBUSY);
    expect(bench.counters).toMatchObject({ posted: 3, retried: 0, errors: 0 });
  });

  it('has not failed while packets move, however few and slowly', () => {
    const bench = new Bench([], 1);
    bench.push(ENTRIES);
    for (let i = 0; bench.inFlight > 0; i++) {
      expect(i).toBeLessThan(500);
      for (let look = 0; look < 15; look++) {
        bench.kernel.now += 60;
        expect(bench.queue.tx.flush()).toBe(0);
      }
      bench.kernel.land(1, 0);
      bench.queue.tx.complete();
    }
    expect(bench.kernel.sent).toHaveLength(ENTRIES);
  });

  it('has not failed while completions come: older kernels do not tell at once how far they have read', () => {
    const bench = new Bench();
    const { words } = bench.memory;
    const place = (ring: 2 | 3) => ringPlace(bench.memory, { port: 0, queue: 0, path: Path.VF }, ring);
    const [tx, completion] = [place(Ring.TX), place(Ring.COMPLETION)];
    let taken = 0;
    const kick = (): number => {
      if (bench.kernel.now % 500 !== 0) return Errno.EAGAIN;
      words[completion.slots + taken * 2] = words[tx.slots + taken * 4]!;
      words[completion.producer] = ++taken;
      return Errno.EAGAIN;
    };
    bench.queue = new XskQueue(
      bench.memory,
      bench.pool,
      { port: 0, queue: 0, path: Path.VF },
      {
        kick,
        millis: bench.kernel.millis,
      },
    );
    bench.push(10);
    while (taken < 10) {
      bench.kernel.now += 10;
      expect(bench.queue.tx.flush()).toBe(0);
      bench.queue.tx.complete();
    }
    expect(bench.counters.packets).toBe(10);
  });
});

describe.each(['6.12, mended', '6.12', '6.1'] as const)(
  'where Linux %s does not say how far it has read',
  (version) => {
    it('a worker that dies while it asks has every packet sent once and in order all the same', () => {
      fc.assert(
        fc.property(
          fc.array(fc.constantFrom<Fate>('sent', 'sent', 'busy', 'no buffer'), { maxLength: 100 }),
          fc.array(step, { minLength: 5, maxLength: 60 }),
          fc.array(fc.tuple(fc.integer({ min: 1, max: 25 }), fc.boolean()), { minLength: 1, maxLength: 10 }),
          (fates, steps, moments) => {
            const deaths = [...moments];
            const bench = new Bench(fates, 8, version);
            const { kernel } = bench;
            let [left, after] = deaths.shift()!;
            const dies = (ask: () => number) => (): number => {
              const now = --left === 0;
              if (now && !after) throw new Death();
              const answer = ask();
              if (now) throw new Death();
              return answer;
            };
            Object.assign(kernel, { kick: dies(kernel.kick), passedOver: dies(kernel.passedOver) });
            const mortally = (work: () => void): void => {
              for (;;) {
                try {
                  work();
                  return;
                } catch (error) {
                  if (!(error instanceof Death)) throw error;
                  [left, after] = deaths.shift() ?? [Number.POSITIVE_INFINITY, false];
                  work = () => bench.replace();
                }
              }
            };
            mortally(() => bench.replace());
            for (const one of steps) {
              mortally(() => playWithRoom(bench, one));
              mortally(() => void bench.queue.tx.flush());
            }
            for (let i = 0; bench.queue.tx.backlog || bench.inFlight > 0; i++) {
              expect(i).toBeLessThan(2000);
              mortally(() => void bench.queue.tx.flush());
              bench.kernel.land(ENTRIES, 0);
              bench.queue.tx.complete();
            }
            bench.whole();
            expect(kernel.sent).toEqual(Array.from({ length: bench.pushed }, (_, i) => i));
          },
        ),
        { numRuns: 200 },
      );
    });

    it('what a device that went down had not taken is given back, and nothing that it had', () => {
      fc.assert(
        fc.property(fc.array(fate, { maxLength: 60 }), fc.array(step, { maxLength: 40 }), (fates, steps) => {
          const bench = new Bench(fates, 8, version);
          for (const one of steps) {
            playWithRoom(bench, one);
          }
          bench.push(bench.spare(5));
          bench.queue.tx.flush();
          bench.kernel.gone = true;
          bench.kernel.land(ENTRIES, 0); // it frees what it has when it is stopped
          bench.push(bench.spare(1));
          const waits = bench.queue.tx.backlog || bench.inFlight > 0;
          bench.queue.tx.flush();
          const rescued = takenBack(bench);
          if (waits) bench.sentAll(rescued);
        }),
        { numRuns: 200 },
      );
    });
  },
);

describe('a zero-copy driver', () => {
  const fillRing = (shared: Memory): ReturnType<typeof ringPlace> => {
    return ringPlace(shared, { port: 0, queue: 0, path: Path.VF }, Ring.FILL);
  };

  /**
   * The receive side, as drivers write it (drivers/net/ethernet/intel/igb/igb_xsk.c, igb_alloc_rx_buffers_zc): it reads
   * the fill ring when it polls; when it finds too little it says that it must be told, and polls when it is.
   */
  class Driver {
    readonly taken: number[] = [];
    wakes = 0;
    readonly #words: Int32Array;
    readonly #fill: ReturnType<typeof ringPlace>;

    constructor(shared: Memory) {
      this.#words = shared.words;
      this.#fill = fillRing(shared);
      this.poll(1);
    }

    readonly wake = (): number => {
      this.wakes++;
      this.poll(8);
      return 0;
    };

    /** Takes up to so many frames for what arrives. */
    poll(wanted: number): void {
      const words = this.#words;
      const { producer, consumer, flags, slots } = this.#fill;
      let left = wanted;
      for (; left > 0 && words[consumer] !== words[producer]; left--) {
        this.taken.push(words[slots + (words[consumer]! & (ENTRIES - 1)) * 2]!);
        words[consumer]!++;
      }
      words[flags] = left > 0 ? 1 : 0;
    }
  }

  /** A queue of a driver whose device is down until the test says otherwise, with three packets in it. */
  function away(): { bench: Bench; state: { down: boolean; kicks: number }; answer: () => boolean } {
    const bench = new Bench();
    const { words } = bench.memory;
    const slot = bench.memory.slot({ port: 0, queue: 0, path: Path.VF });
    slot.reader = Reader.DRIVER;
    const state = { down: true, kicks: 0 };
    const { millis } = bench.kernel;
    const kick = (): number => {
      state.kicks++;
      if (state.down) return Errno.ENETDOWN;
      const { producer, consumer } = ringPlace(bench.memory, { port: 0, queue: 0, path: Path.VF }, Ring.TX);
      words[consumer] = words[producer]!;
      return 0;
    };
    const doubted = (): void => {
      bench.doubted = true;
    };
    const end = { kick, millis, doubted };
    bench.queue = new XskQueue(bench.memory, bench.pool, { port: 0, queue: 0, path: Path.VF }, end);
    bench.push(3);
    return { bench, state, answer: () => bench.takeDoubt() };
  }

  it('that says its device is down while its rings are rebuilt is asked again, and given nothing meanwhile', () => {
    const { bench, state, answer } = away();
    expect(bench.queue.tx.flush()).toBe(0);
    expect(answer()).toBe(true);
    expect(answer()).toBe(false);
    bench.memory.slot({ port: 0, queue: 0, path: Path.VF }).doubt = Doubt.LINKED;
    for (let i = 1; i < 100; i++) {
      bench.kernel.now++;
      expect([bench.queue.tx.flush(), bench.queue.tx.room(1), bench.queue.tx.backlog]).toEqual([0, 0, true]);
    }
    state.down = false;
    expect([bench.queue.tx.flush(), bench.queue.tx.room(1), bench.queue.tx.backlog]).toEqual([0, 1, false]);
    state.down = true;
    bench.push(1);
    expect(bench.queue.tx.flush()).toBe(0);
    expect(answer()).toBe(true);
    bench.kernel.now += 19;
    expect(bench.queue.tx.flush()).toBe(0);
  });

  it.each([
    ['nobody knows whether it runs', Doubt.ASKED, 20],
    ['it is known to run', Doubt.LINKED, 100],
  ])('that says its device is down has failed when that lasts, sooner if %s', (_, doubt, patience) => {
    const { bench, state, answer } = away();
    expect(bench.queue.tx.flush()).toBe(0);
    expect(answer()).toBe(true);
    bench.memory.slot({ port: 0, queue: 0, path: Path.VF }).doubt = doubt;
    bench.kernel.now += patience - 1;
    expect(bench.queue.tx.flush()).toBe(0);
    bench.kernel.now++;
    expect(bench.queue.tx.flush()).toBe(Errno.ENETDOWN);
    const { kicks } = state;
    expect([bench.queue.tx.flush(), bench.queue.tx.room(1), state.kicks]).toEqual([Errno.ENETDOWN, 0, kicks]);
  });

  it('that found no frames when it began is told of those that come', () => {
    const shared = opened();
    const driver = new Driver(shared);
    const pool = new FramePool(shared, 0);
    const queue = new XskQueue(
      shared,
      pool,
      { port: 0, queue: 0, path: Path.VF },
      { kick: () => 0, wake: driver.wake },
    );
    pool.owners.recover([queue]);
    queue.refill();
    expect(driver.taken).toHaveLength(8);
    for (let round = 0; round < 10; round++) queue.refill();
    expect(driver.wakes).toBe(1);
  });

  it('is never left waiting with frames in the ring, and not told for nothing', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.record({ polls: fc.integer({ min: 1, max: 40 }) }), fc.constant('refill')), {
          maxLength: 60,
        }),
        (steps) => {
          const shared = opened();
          const driver = new Driver(shared);
          const pool = new FramePool(shared, 0);
          const queue = new XskQueue(
            shared,
            pool,
            { port: 0, queue: 0, path: Path.VF },
            { kick: () => 0, wake: driver.wake },
          );
          pool.owners.recover([queue]);
          const { words } = shared;
          const fill = fillRing(shared);
          for (const step of steps) {
            if (typeof step !== 'string') driver.poll(step.polls);
            else {
              const { wakes } = driver;
              const waited = words[fill.flags] === 1;
              queue.refill();
              expect(driver.wakes - wakes).toBeLessThanOrEqual(waited ? 1 : 0);
              const offered = words[fill.producer]! - words[fill.consumer]!;
              expect(words[fill.flags] === 1 && offered > 0).toBe(false);
            }
          }
          expect(new Set(driver.taken).size).toBe(driver.taken.length);
        },
      ),
    );
  });
});
