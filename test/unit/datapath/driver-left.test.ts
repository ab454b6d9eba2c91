/**
 * Leaving a path whose driver reads the transmit ring by itself: what it has not read goes by the other path, and what it
 * has begun to read it finishes.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PortQueue } from '../../../src/datapath/port-queue.ts';
import { takeOver } from '../../../src/datapath/takeover.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { TX } from '../../../src/handler/handler.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Driver, HEADROOM, Path, Reader, Ring } from '../../../src/memory/layout.ts';
import { ringPlace } from '../../../src/memory/requests.ts';
import { Consumer, Producer } from '../../../src/memory/ring.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { XskQueue } from '../../../src/paths/af-xdp/queue.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { UPPER } from '../../../src/paths/transmit-recovery.ts';
import { portStatistics } from '../../../src/statistics.ts';

const BOTH = pathBit(Path.SYNTHETIC) | pathBit(Path.VF);
const FRAMES = 256;

/** As `xskq_cons_read_desc_batch` and a driver behind it: reads, sends at once, and says so some time later. */
class ZeroCopyDriver {
  readonly sent: number[] = [];
  readonly #memory: Memory;
  readonly #tx: Consumer;
  readonly #completion: Producer;
  readonly #unsaid: number[] = [];

  constructor(memory: Memory) {
    const { words } = memory;
    const slot = memory.slot({ port: 0, queue: 0, path: Path.VF });
    const place = (ring: 2 | 3) => ringPlace(memory, { port: 0, queue: 0, path: Path.VF }, ring);
    this.#memory = memory;
    this.#tx = new Consumer(words, place(Ring.TX));
    this.#completion = new Producer(words, place(Ring.COMPLETION));
    slot.reader = Reader.DRIVER;
    slot.driver = Driver.AF_XDP;
  }

  read(most: number): void {
    const { words, view, layout } = this.#memory;
    const count = this.#tx.peek(most);
    for (let i = 0; i < count; i++) {
      const slot = this.#tx.slot(i);
      if (words[slot + UPPER] !== 0) continue;
      this.sent.push(view.getUint32(layout.frames + words[slot]!));
      this.#unsaid.push(words[slot]!);
    }
    this.#tx.release(count);
  }

  complete(most: number): void {
    const count = Math.min(most, this.#unsaid.length, this.#completion.reserve(most));
    for (let i = 0; i < count; i++) {
      const slot = this.#completion.slot(i);
      this.#memory.words[slot] = this.#unsaid.shift()!;
      this.#memory.words[slot + UPPER] = 0;
    }
    this.#completion.commit(count);
  }

  stops(): void {
    this.#memory.slot({ port: 0, queue: 0, path: Path.VF }).reader = Reader.STOPPED;
  }
}

class Scene {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
  readonly driver: ZeroCopyDriver;
  readonly other: MemoryPeer;
  readonly sentByOther: number[] = [];
  given = 0;
  #epoch = 0;
  readonly #pool: FramePool;
  readonly #port: PortQueue;

  constructor() {
    const { memory } = this;
    for (const path of [Path.SYNTHETIC, Path.VF]) {
      const device = new MemoryDevice(memory, 0, path, 'memory');
      device.open();
      device.arm();
    }
    this.other = MemoryPeer.attach(memory, 0, 0, Path.SYNTHETIC)!;
    this.driver = new ZeroCopyDriver(memory);
    const socket = { xskKick: () => 0, xskWake: () => 0, millis: () => 0 };
    const shim = { write: () => 8, ...socket } as unknown as Shim;
    const pool = new FramePool(memory, 0);
    const burst = new Burst(memory, 0);
    this.#pool = pool;
    this.#port = new PortQueue({
      ...{ shim, memory, pool, burst, port: 0, queue: 0, forwardTable: { ports: [], relays: [] } },
      delivery: new DeliverySender(memory, pool, burst, 0, 0),
      ...{ notifySupervisor: () => {}, failed: () => {}, hashTables: undefined, inPlace: undefined },
      handler: () => burst.verdict.fill(TX, 0, burst.length),
    });
    takeOver({ shim, memory, pool, burst, queue: 0 }, [this.#port]);
    this.order(Path.VF, BOTH);
    this.round();
  }

  order(owner: 0 | 1 | 2, attached: number, reclaimed = 0): void {
    const word = ownerWord(++this.#epoch, owner, attached, reclaimed);
    this.memory.queue(0, 0).owner = word;
  }

  get obeyed(): boolean {
    const block = this.memory.queue(0, 0);
    return block.ack === block.owner;
  }

  round(): void {
    this.#pool.collect();
    this.#port.poll();
    this.#pool.flush();
    this.other.collect(64, (offset) => this.sentByOther.push(this.memory.view.getUint32(offset)));
  }

  give(count: number): void {
    this.other.deliver(count, (offset) => {
      this.memory.view.setUint32(offset, this.given++);
      return 60;
    });
  }

  /** Until the order is carried out, which the clock has a part in. */
  leave(meanwhile = (): void => {}): void {
    this.order(Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
    do {
      this.round();
      meanwhile();
    } while (!this.obeyed);
  }

  /** Another port of the worker sends a packet by this one. */
  forward(): void {
    if (this.#pool.count === 0) return;
    const at = this.memory.layout.frames + this.#pool.peek(0) + HEADROOM;
    this.#pool.remove(1);
    this.memory.view.setUint32(at, this.given++);
    this.#port.dispatch.transmit(at, 60);
  }

  /** Closes the path, and lets all that is left pass. */
  end(): void {
    this.order(Path.SYNTHETIC, pathBit(Path.SYNTHETIC), pathBit(Path.VF));
    for (let i = 0; i < 20; i++) this.round();
    expect(this.obeyed).toBe(true);
    const { accounted, total, duplicates } = this.frames;
    expect({ accounted, duplicates }).toEqual({ accounted: total, duplicates: 0 });
  }

  get frames() {
    const held = this.#port.paths;
    const inRings = held.reduce((sum, path) => {
      const { fill, rx, tx, completing } = path.ledger();
      return sum + fill + rx + tx + completing;
    }, 0);
    return {
      total: FRAMES,
      accounted: this.#pool.count + inRings,
      duplicates: this.#pool.owners.duplicates(held),
    };
  }

  /** Every packet that was given, once and in order. */
  expectAll(): void {
    const all = Array.from({ length: this.given }, (_, number) => number);
    expect([...this.driver.sent, ...this.sentByOther]).toEqual(all);
  }
}

const steps = fc.array(
  fc.record({
    what: fc.constantFrom('give', 'round', 'read', 'complete'),
    count: fc.integer({ min: 1, max: 40 }),
  }),
  { maxLength: 30 },
);

function play(scene: Scene, { what, count }: { what: string; count: number }): void {
  if (what === 'give') scene.give(count);
  else if (what === 'round') scene.round();
  else if (what === 'read') scene.driver.read(count);
  else scene.driver.complete(count);
}

/** A path of such a driver, and its queue for one worker after the other. */
function driven() {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
  const device = new MemoryDevice(memory, 0, Path.VF, 'memory');
  device.open();
  memory.slot({ port: 0, queue: 0, path: Path.VF }).reader = Reader.DRIVER;
  const pool = new FramePool(memory, 0);
  pool.owners.recover([]);
  const queue = (kick: () => number) =>
    new XskQueue(memory, pool, { port: 0, queue: 0, path: Path.VF }, { kick });
  return { memory, pool, queue };
}

const statistics = ({ memory }: Scene) => portStatistics(memory, 0).paths.vf;

it('a queue takes back at once and in order all that the driver of a stopped device has not read', () => {
  fc.assert(
    fc.property(steps, (played) => {
      const scene = new Scene();
      for (const step of played) play(scene, step);
      scene.driver.stops();
      scene.order(Path.SYNTHETIC, pathBit(Path.SYNTHETIC));
      scene.round();
      expect(scene.obeyed).toBe(true);
      const before = scene.driver.sent.length;
      scene.driver.read(64); // somebody has set the device up again
      expect(scene.driver.sent).toHaveLength(before);
      for (let i = 0; i < 20; i++) scene.round();
      scene.end();
      scene.expectAll();
      const { txPosted, txPackets, txRescued, txUnknown } = statistics(scene);
      expect(txPackets + txUnknown).toBe(before);
      expect(txRescued).toBe(txPosted - before);
    }),
    { numRuns: 100 },
  );
});

it('a queue waits for a driver that still progresses, and then has nothing to take back', () => {
  fc.assert(
    fc.property(steps, fc.integer({ min: 1, max: 7 }), (played, pace) => {
      const scene = new Scene();
      for (const step of played) play(scene, step);
      scene.round(); // what is in hand is posted
      scene.leave(() => {
        scene.driver.read(pace);
        scene.driver.complete(pace);
      });
      scene.end();
      expect(statistics(scene)).toMatchObject({
        txRescued: 0,
        txUnknown: 0,
        txPackets: scene.driver.sent.length,
      });
      scene.expectAll();
    }),
    { numRuns: 50 },
  );
});

it('a queue does not mistake packets that other workers send for progress of the driver', () => {
  const scene = new Scene();
  scene.give(30);
  scene.round();
  scene.driver.read(11);
  scene.leave(() => {
    if (scene.given < 40) scene.forward();
  });
  scene.end();
  scene.expectAll();
  expect(scene.given).toBeGreaterThan(30);
});

it('a queue takes back what a worker left half taken back when it died, and no driver reads it', () => {
  const { memory, pool, queue } = driven();
  const tx = ringPlace(memory, { port: 0, queue: 0, path: Path.VF }, Ring.TX);
  let kicks = 0;
  const kick = (): number => ++kicks;
  const first = queue(kick);
  first.refill();
  for (let i = 0; i < 5; i++) {
    first.tx.push(memory.layout.frames + pool.peek(0) + HEADROOM, 60 + i);
    pool.remove(1);
  }
  first.tx.flush();
  let visited = 0;
  const dies = (): void => {
    if (++visited === 3) throw new Error('the worker dies');
  };
  expect(() => first.tx.reclaimUnsent(dies)).toThrow();
  memory.words[tx.flags] = 1;
  kicks = 0;
  const next = queue(kick);
  expect(next.tx.flush()).toBeLessThan(0);
  expect(kicks).toBe(0);
  const lengths: number[] = [];
  next.tx.reclaimUnsent((_, bytes) => lengths.push(bytes));
  expect(lengths).toEqual([62, 63, 64]);
});

it('a queue takes back what a driver no longer reads, without a report that the device has stopped', () => {
  const scene = new Scene();
  scene.give(30);
  scene.round();
  scene.driver.read(11);
  scene.driver.complete(4);
  scene.leave();
  expect(statistics(scene)).toMatchObject({ txPackets: 4, txRescued: 19 });
  scene.end();
  scene.expectAll();
  expect(statistics(scene).txUnknown).toBe(7);
});
