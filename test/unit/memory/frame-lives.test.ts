/**
 * The life of a frame among workers: fill, receive, handoff ring, another worker's transmit ring, completion, return ring; or
 * delivery ring, application, and home again. Two workers take turns at it, statement by statement as far as others can see, and
 * die at any point. The application reads and releases in between.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DeliveredBurst } from '../../../src/delivered-burst.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { HandoffKind, isDelivery } from '../../../src/memory/bit-fields.ts';
import { DeliveryReceiver, DeliverySender } from '../../../src/memory/delivery-ring.ts';
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
  ('go on' | 'die' | 'die collecting' | 'peer gives' | 'peer takes' | 'application') | (typeof NAMES)[number]
>(
  ...(['go on', 'go on', 'go on', 'go on', 'die', 'die collecting', 'peer gives', 'peer takes'] as const),
  ...(['application', 'application'] as const),
  ...NAMES,
);
const step = fc.record({ worker: fc.constantFrom(0, 1), what, bits: fc.integer({ min: 0, max: 0xffff }) });

class Death extends Error {}

/** The application's end of a worker's ring, which no death ends. */
class Application {
  readonly #memory: Memory;
  readonly #burst: DeliveredBurst;
  readonly #receiver: DeliveryReceiver;
  #latest = -1;
  /** Packets that it looks at: offset and number of each. */
  #held: [offset: number, number: number][] = [];

  constructor(memory: Memory, queue: number) {
    this.#memory = memory;
    this.#burst = new DeliveredBurst(memory);
    this.#receiver = new DeliveryReceiver(memory, this.#burst, 0, queue);
  }

  /** Has looked at packets, which nobody has changed meanwhile, and gives them back; or begins with the next ones. */
  step(most: number): void {
    const { view } = this.#memory;
    if (this.#held.length > 0) {
      for (const [offset, number] of this.#held) expect(view.getUint32(offset)).toBe(number);
      this.#receiver.release(this.#held.length);
      this.#held = [];
      return;
    }
    const count = this.#receiver.read(most);
    for (let i = 0; i < count; i++) {
      const offset = this.#burst.offset[i]!;
      const number = view.getUint32(offset);
      expect(number).toBeGreaterThan(this.#latest);
      this.#latest = number;
      this.#held.push([offset, number]);
    }
  }
}

/** Of packets that are delivered, over all workers. */
let delivered = 0;

class Life {
  pool!: FramePool;
  path!: RingQueue;
  sender!: HandoffSender;
  receiver!: HandoffReceiver;
  delivery!: DeliverySender;
  readonly application: Application;
  /** What it is in the middle of. */
  #doing: Iterator<undefined> | undefined;
  readonly peer: MemoryPeer;
  readonly #memory: Memory;
  readonly #queue: number;

  constructor(memory: Memory, queue: number) {
    this.#memory = memory;
    this.#queue = queue;
    this.application = new Application(memory, queue);
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
    const burst = new Burst(this.#memory, this.#queue);
    const unpublished = this.delivery?.staged ?? 0;
    this.delivery = new DeliverySender(this.#memory, this.pool, burst, 0, this.#queue);
    let undelivered = 0;
    this.pool.owners.recover([this.path], [], [this.sender, this.delivery], (owner) => {
      if (isDelivery(owner)) undelivered++;
    });
    expect(undelivered).toBe(unpublished); // no packet that the application has had counts as lost
    this.receiver = new HandoffReceiver(this.#memory, this.pool, 0, other, this.#queue);
  }

  /** In the middle of taking back what others or the application gave back, after so many frames. */
  dieCollecting(after: number, from: { collect(): void }): void {
    const { pool } = this;
    const put = pool.put.bind(pool);
    let left = after;
    pool.put = (address) => {
      if (left-- === 0) throw new Death();
      put(address);
    };
    try {
      from.collect();
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
      if (i % 3 !== 1 || !this.#deliver(offset[i]!, bits)) this.#pass(offset[i]!, bytes[i]!, i % 3 > 0);
    }
    yield;
    this.#publish();
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
      const send = (bits & (1 << i)) > 0;
      if (send || !this.#deliver(offset[i]!, bits)) this.#pass(offset[i]!, bytes[i]!, send);
    }
    yield;
    this.#publish();
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
    yield;
    this.delivery.collect();
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

  /** Gives the application the packet, or a copy, after which the packet goes its way. False: the packet is not delivered. */
  #deliver(offset: number, bits: number): boolean {
    this.#memory.view.setUint32(offset, delivered++);
    if ((bits & 0x4000) === 0) return this.delivery.push(0, offset, 60);
    this.delivery.pushCopy(0, offset, 60);
    return false;
  }

  #publish(): void {
    if (this.delivery.staged > 0) this.delivery.commit();
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
  for (const [queue, { pool, path, sender, delivery }] of lives.entries()) {
    for (let i = 0; i < pool.count; i++) add(pool.peek(i));
    path.enumerate(add);
    sender.enumerate(add);
    delivery.enumerate(add);
    const home = new Consumer(words, placeAt(layout.returnRing(1 - queue, queue), layout.returnEntries, 1));
    const count = home.pending();
    for (let i = 0; i < count; i++) add(words[home.slot(i)]!);
  }
  return found;
}

/** Writes over what a frame had. */
function scribble({ bytes }: Memory, at: number): number {
  bytes.fill(0xff, at, at + 60);
  return 60;
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
        else if (now === 'die collecting') life.dieCollecting(bits % 8, bits & 8 ? life.pool : life.delivery);
        else if (now === 'application') life.application.step(1 + (bits % 24));
        else if (now === 'peer gives') life.peer.deliver(1 + (bits % 24), (at) => scribble(memory, at));
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
          for (let i = 0; i < 2; i++) life.application.step(64);
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
