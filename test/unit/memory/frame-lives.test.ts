/**
 * The life of a frame among workers: fill, receive, handoff ring, another worker's transmit ring, completion, return ring.
 * Two workers take turns at it, statement by statement as far as others can see, and die at any point.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Burst } from '../../../src/handler/burst.ts';
import { HandoffKind } from '../../../src/memory/bit-fields.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HandoffReceiver, HandoffSender } from '../../../src/memory/handoff.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Consumer, placeAt } from '../../../src/memory/ring.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import type { RingQueue } from '../../../src/paths/ring-queue.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

const FRAMES = 128;
const BURST = 16;

const NAMES = ['receive', 'take', 'send', 'settle', 'make'] as const;
const what = fc.constantFrom<
  'go on' | 'die' | 'die collecting' | 'peer gives' | 'peer takes' | (typeof NAMES)[number]
>(
  ...(['go on', 'go on', 'go on', 'go on', 'die', 'die collecting', 'peer gives', 'peer takes'] as const),
  ...NAMES,
);
const step = fc.record({ worker: fc.constantFrom(0, 1), what, bits: fc.integer({ min: 0, max: 0xffff }) });

class Death extends Error {}

class Life {
  pool!: FramePool;
  path!: RingQueue;
  sender!: HandoffSender;
  receiver!: HandoffReceiver;
  /** What it is in the middle of. */
  #doing: Iterator<undefined> | undefined;
  readonly peer: MemoryPeer;
  readonly #memory: Memory;
  readonly #queue: number;

  constructor(memory: Memory, queue: number) {
    this.#memory = memory;
    this.#queue = queue;
    this.peer = MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!;
    this.begin();
  }

  /** As a worker does: datapath/takeover.ts. */
  begin(): void {
    const other = 1 - this.#queue;
    this.#doing = undefined;
    this.pool = new FramePool(this.#memory, this.#queue);
    this.path = memoryQueue(this.#memory, this.pool, {
      port: 0,
      queue: this.#queue,
      path: Path.SYNTHETIC,
    });
    this.sender = new HandoffSender(this.#memory, this.pool, 0, this.#queue, other);
    this.pool.owners.recover([this.path], [], [this.sender]);
    this.receiver = new HandoffReceiver(this.#memory, this.pool, 0, other, this.#queue);
  }

  /** In the middle of taking back what has come home, after so many frames. */
  dieCollecting(after: number): void {
    const { pool } = this;
    const put = pool.put.bind(pool);
    let left = after;
    pool.put = (address) => {
      if (left-- === 0) throw new Death();
      put(address);
    };
    try {
      pool.collect();
    } catch (error) {
      if (!(error instanceof Death)) throw error;
    }
    this.begin();
  }

  goOn(): boolean {
    if (this.#doing?.next().done === false) return true;
    this.#doing = undefined;
    return false;
  }

  start(what: (typeof NAMES)[number], bits: number): void {
    while (this.goOn());
    this.#doing = this[what](bits);
  }

  /** Each packet stays, is handed over, or dropped. */
  *receive(bits: number): Iterator<undefined> {
    const burst = new Burst(this.#memory, this.#queue);
    const { offset, bytes } = burst;
    const count = this.path.rx.receive(burst, BURST);
    const kept: number[] = [];
    for (let i = 0; i < count; i++) {
      yield;
      if (bits & (1 << i) && this.sender.room(1) === 1) {
        this.sender.push(offset[i]!, bytes[i]!, HandoffKind.PACKET, Path.SYNTHETIC, 0);
      } else kept.push(i);
    }
    yield;
    this.sender.commit();
    for (const i of kept) {
      yield;
      this.#pass(offset[i]!, bytes[i]!, i % 3 > 0);
    }
    yield;
    this.path.rx.release();
  }

  /** What the other has handed over is sent or dropped. */
  *take(bits: number): Iterator<undefined> {
    const { offset, bytes, hash } = arrays();
    if (this.receiver.ready(BURST) === 0) return;
    const count = this.receiver.receive(offset, bytes, hash, BURST);
    for (let i = 0; i < count; i++) {
      yield;
      this.#pass(offset[i]!, bytes[i]!, (bits & (1 << i)) > 0);
    }
    yield;
    this.receiver.release(count);
  }

  *send(): Iterator<undefined> {
    this.path.tx.flush();
    yield;
    this.path.tx.complete();
    yield;
    this.path.refill();
  }

  /** The end of a round. */
  *settle(): Iterator<undefined> {
    this.pool.flush();
    yield;
    this.pool.collect();
  }

  /** A packet of the handler's own, which may be the other's to send. */
  *make(bits: number): Iterator<undefined> {
    if (this.pool.count === 0) return;
    const address = this.pool.peek(0);
    this.pool.setOwner(address, this.pool.hand);
    yield;
    this.pool.remove(1);
    yield;
    const offset = this.#memory.layout.frames + address + 256;
    if (bits & 1 && this.sender.room(1) === 1) {
      this.sender.push(offset, 60, HandoffKind.SEND, Path.SYNTHETIC, 0);
      yield;
      this.sender.commit();
    } else this.#pass(offset, 60, true);
  }

  #pass(offset: number, bytes: number, send: boolean): void {
    if (send && this.path.tx.room(1) === 1) this.path.tx.push(offset, bytes);
    else this.pool.put(offset - this.#memory.layout.frames);
  }

  /** As an audit adds it up: datapath/audit.ts. */
  ledger(): { accounted: number; duplicates: number } {
    const { fill, rx, tx, completing } = this.path.ledger();
    const leaving = this.pool.owners.leaving([this.path]);
    const { lent, borrowed } = this.pool.owners.exchanged();
    const sum = this.pool.count + fill + rx + tx + completing + lent - borrowed;
    return {
      accounted: sum + leaving.fill + leaving.tx,
      duplicates: this.pool.owners.duplicates([this.path]),
    };
  }
}

const arrays = () => ({
  offset: new Int32Array(BURST),
  bytes: new Int32Array(BURST),
  hash: new Int32Array(BURST),
});

/** How often each frame of both is found, over all stacks, rings and handoff rings. */
function places(memory: Memory, lives: readonly Life[]): Map<number, number> {
  const found = new Map<number, number>();
  const add = (address: number): void => {
    const frame = address >>> 11;
    found.set(frame, (found.get(frame) ?? 0) + 1);
  };
  const { layout, words } = memory;
  for (const [queue, { pool, path, sender }] of lives.entries()) {
    for (let i = 0; i < pool.count; i++) add(pool.peek(i));
    path.enumerate(add);
    sender.enumerate(add);
    const home = new Consumer(words, placeAt(layout.returnRing(1 - queue, queue), layout.returnEntries, 1));
    const count = home.pending();
    for (let i = 0; i < count; i++) add(words[home.slot(i)]!);
  }
  return found;
}

function twoWorkers(): { memory: Memory; lives: Life[] } {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
  const device = new MemoryDevice(memory, 0, Path.SYNTHETIC, 'memory');
  device.open();
  device.arm();
  return { memory, lives: [0, 1].map((queue) => new Life(memory, queue)) };
}

it('no frame is lost or in two places, for any steps of the workers and deaths between them', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400, size: 'max' }), (steps) => {
      const { memory, lives } = twoWorkers();
      for (const { worker, what: now, bits } of steps) {
        const life = lives[worker]!;
        if (now === 'go on') life.goOn();
        else if (now === 'die') life.begin();
        else if (now === 'die collecting') life.dieCollecting(bits % 8);
        else if (now === 'peer gives') life.peer.deliver(1 + (bits % 24), () => 60);
        else if (now === 'peer takes') life.peer.collect(1 + (bits % 24), () => {});
        else life.start(now, bits);
      }
      // A burst boundary of both: everything is in one place.
      for (const life of lives) {
        while (life.goOn());
        life.path.tx.flush();
        life.sender.commit();
        life.pool.flush();
      }
      const found = places(memory, lives);
      expect([...found].filter(([, times]) => times !== 1)).toEqual([]);
      expect(found.size).toBe(2 * FRAMES);
      for (const life of lives) expect(life.ledger()).toEqual({ accounted: FRAMES, duplicates: 0 });

      // And everything comes home.
      for (let round = 0; round < 40; round++) {
        for (const life of lives) {
          for (const name of ['receive', 'take', 'send', 'settle'] as const) life.start(name, 0xffff);
          while (life.goOn());
          life.peer.collect(64, () => {});
        }
      }
      for (const life of lives) {
        const { fill, ...rest } = life.path.ledger();
        expect({ free: life.pool.count + fill, ...rest }).toEqual({
          free: FRAMES,
          rx: 0,
          tx: 0,
          completing: 0,
        });
      }
    }),
    { numRuns: 150 },
  );
});
