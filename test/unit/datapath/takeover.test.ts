/**
 * What the successor of a worker that died in its handler does, over rings in memory. A death is exact: the memory is
 * copied while the handler runs, and put back to that state once the round is over.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { imbalances } from '../../../src/cli/imbalances.ts';
import { answerAudit } from '../../../src/datapath/audit.ts';
import type { ForwardTable } from '../../../src/datapath/forward.ts';
import { PortQueue } from '../../../src/datapath/port-queue.ts';
import { takeOver } from '../../../src/datapath/takeover.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { TX } from '../../../src/handler/handler.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { LEDGER_FIELDS } from '../../../src/memory/blocks.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { InPlaceWord } from '../../../src/memory/wasm-abi.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { HashTables } from '../../../src/rss/toeplitz.ts';
import { portStatistics } from '../../../src/statistics.ts';

const shim = { write: () => 8 } as unknown as Shim;
const NUMBER = 16;

/** How the packets get to the handler of queue 0: by its own path, from queue 1, or in its own loop. */
type Way = 'path' | 'handoff' | 'in-place';

class Scene {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 512, ringEntries: 512 },
  });
  readonly way: Way;
  readonly deadly: ReadonlySet<number>;
  readonly peers: readonly MemoryPeer[];
  /** How often each number has come back, and how many came back behind a higher one. */
  readonly seen: number[] = [];
  reordered = 0;
  returned = 0;
  deaths = 0;
  /** Numbers that the handler has been given, calls that ended in a death included. */
  readonly handled: number[] = [];
  #highest = -1;
  #snapshot: Uint8Array | undefined;
  readonly #workers: { pool: FramePool; port: PortQueue }[] = [];

  constructor(way: Way, deadly: readonly number[]) {
    this.way = way;
    this.deadly = new Set(deadly);
    const device = new MemoryDevice(this.memory, 0, Path.SYNTHETIC, 'memory');
    device.open();
    device.arm();
    this.peers = [0, 1].map((queue) => MemoryPeer.attach(this.memory, 0, queue, Path.SYNTHETIC)!);
    for (const queue of [0, 1]) {
      const word = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
      this.memory.queue(0, queue).owner = word;
      this.start(queue);
    }
    this.round();
  }

  /** A worker, as datapath/worker.ts makes one. The redirection table says 0 throughout. */
  start(queue: number): void {
    const { memory } = this;
    const pool = new FramePool(memory, queue);
    const burst = new Burst(memory, queue);
    const forwardTable: ForwardTable = { ports: [], relays: [] };
    const delivery = new DeliverySender(memory, pool, burst, 0, queue);
    const divides = this.way === 'handoff';
    const port = new PortQueue({
      ...{
        shim,
        memory,
        pool,
        burst,
        port: 0,
        queue,
        forwardTable,
        delivery,
        notifySupervisor: () => {},
        failed: () => {},
      },
      handler: () => this.handle(burst),
      inPlace:
        this.way === 'in-place'
          ? (_, at, from, to, count) => this.inPlace(burst, at, from, to, count)
          : undefined,
      hashTables: divides ? new HashTables(1) : undefined,
    });
    takeOver({ shim, memory, pool, burst, queue }, [port]);
    this.#workers[queue] = { pool, port };
  }

  handle(burst: Burst): void {
    for (let i = 0; i < burst.length; i++) {
      this.look(burst.offset[i]!);
      burst.verdict[i] = TX;
    }
  }

  /** Sends everything back, from ring to ring. */
  inPlace(_burst: Burst, at: number, from: number, to: number, count: number): void {
    const { words } = this.memory;
    const word = (field: number): number => words[(at + field) >> 2]!;
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const slot = (word(InPlaceWord.received) >> 2) + ((from + i) & word(InPlaceWord.receivedMask)) * 4;
      const out = (word(InPlaceWord.sent) >> 2) + ((to + i) & word(InPlaceWord.sentMask)) * 4;
      this.look(word(InPlaceWord.frames) + words[slot]!);
      words.copyWithin(out, slot, slot + 4);
      bytes += words[slot + 2]!;
    }
    words[(at + InPlaceWord.done) >> 2] = count;
    words[(at + InPlaceWord.bytes) >> 2] = bytes;
    words[(at + InPlaceWord.staged) >> 2] = count;
  }

  look(offset: number): void {
    if (this.#snapshot !== undefined) return;
    const number = this.memory.view.getUint32(offset + NUMBER);
    this.handled.push(number);
    if (this.deadly.has(number)) this.#snapshot = this.memory.bytes.slice();
  }

  /** One round of both workers; one that has died is replaced. */
  round(): void {
    for (const queue of [1, 0]) {
      const { pool, port } = this.#workers[queue]!;
      pool.collect();
      port.poll();
      pool.flush();
      if (this.#snapshot === undefined) continue;
      this.memory.bytes.set(this.#snapshot);
      this.#snapshot = undefined;
      this.deaths++;
      this.start(queue);
    }
    for (const peer of this.peers) peer.collect(64, (offset) => this.take(offset));
  }

  /** Rounds until a hundred in a row have moved no packet. */
  settle(): void {
    const moved = () => [this.handled.length, this.returned, this.deaths].join();
    for (let quiet = 0; quiet < 100; ) {
      const before = moved();
      this.round();
      quiet = moved() === before ? quiet + 1 : 0;
    }
  }

  give(count: number): void {
    this.peers[this.way === 'handoff' ? 1 : 0]!.deliver(count, (offset) => {
      const { bytes, view } = this.memory;
      bytes.fill(0xee, offset, offset + 60); // no IP: all of them are queue 0's
      view.setUint32(offset + NUMBER, this.seen.length);
      this.seen.push(0);
      return 60;
    });
  }

  take(offset: number): void {
    const number = this.memory.view.getUint32(offset + NUMBER);
    this.seen[number]!++;
    this.returned++;
    if (number < this.#highest) this.reordered++;
    this.#highest = Math.max(this.#highest, number);
  }

  ledgers(): object[] {
    const { words } = this.memory;
    return this.#workers.map(({ pool, port }, queue) => {
      this.memory.workers[queue]!.auditWanted++;
      answerAudit(this.memory, queue, pool, [port]);
      const at = this.memory.workers[queue]!.at('ledger');
      const { total, accounted, duplicates } = Object.fromEntries(
        LEDGER_FIELDS.map((field, i) => [field, words[at + i]!]),
      );
      return { missing: total! - accounted!, duplicates };
    });
  }
}

const gives = fc.array(fc.integer({ min: 0, max: 96 }), { minLength: 1, maxLength: 12 });

it.each<Way>(['path', 'handoff', 'in-place'])(
  'a deadly packet that comes through a %s ends two workers, no other packet is lost, and its burst is replayed once',
  (way) => {
    fc.assert(
      fc.property(
        gives,
        fc.uniqueArray(fc.integer({ min: 0, max: 400 }), { maxLength: 8 }),
        (given, wanted) => {
          const scene = new Scene(way, wanted);
          for (const count of given) {
            scene.give(count);
            scene.round();
          }
          scene.settle();
          const deadly = wanted.filter((number) => number < scene.seen.length);
          const lost = scene.seen.flatMap((times, number) => (times === 0 ? [number] : []));
          expect(lost).toEqual(deadly.sort((a, b) => a - b));
          expect(scene.seen.filter((times) => times > 1)).toEqual([]);
          expect(scene.reordered).toBe(0);
          const stats = portStatistics(scene.memory, 0);
          expect(stats.dropped).toMatchObject({
            workerDied: deadly.length,
            stuck: 0,
            handoffFull: 0,
            txFull: 0,
          });
          expect(imbalances(stats)).toEqual([]);
          expect(scene.ledgers()).toEqual(Array(2).fill({ missing: 0, duplicates: 0 }));
          // The first death of a burst, and then one for each deadly packet in it.
          expect(scene.deaths).toBeGreaterThanOrEqual(deadly.length);
          expect(scene.deaths).toBeLessThanOrEqual(2 * deadly.length);
          for (const number of deadly) {
            expect(scene.handled.filter((one) => one === number).length).toBeLessThanOrEqual(2);
          }
        },
      ),
      { numRuns: 8 },
    );
  },
);

it('a packet that killed one worker and does not kill the next is not lost', () => {
  const deadly = [5, 40];
  const scene = new Scene('path', deadly);
  scene.give(64);
  scene.round();
  expect(scene.deaths).toBe(1);
  (scene.deadly as Set<number>).clear();
  for (let round = 0; round < 200; round++) scene.round();
  expect(scene.seen.every((times) => times === 1)).toBe(true);
  expect(scene.deaths).toBe(1);
  expect(imbalances(portStatistics(scene.memory, 0))).toEqual([]);
});

it('the burst of a stuck worker is dropped, and packets that another worker handed to it are handled', () => {
  for (const way of ['path', 'handoff', 'in-place'] as const) {
    const scene = new Scene(way, [3]);
    const start = scene.start.bind(scene);
    scene.start = (queue) => {
      scene.memory.workers[queue]!.stuck = 1;
      start(queue);
    };
    scene.give(40);
    scene.round();
    scene.start = start;
    scene.give(40);
    for (let round = 0; round < 200; round++) scene.round();
    const stats = portStatistics(scene.memory, 0);
    expect(scene.seen.slice(0, 40)).toEqual(Array(40).fill(0));
    expect(scene.seen.slice(40)).toEqual(Array(40).fill(1));
    expect(stats.dropped).toMatchObject({ stuck: 40, workerDied: 0 });
    expect(imbalances(stats)).toEqual([]);
    expect(scene.ledgers()).toEqual(Array(2).fill({ missing: 0, duplicates: 0 }));
  }
});
