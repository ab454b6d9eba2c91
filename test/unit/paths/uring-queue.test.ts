/**
 * The queue of a tap, over a real io_uring: its file is a datagram socket here, of which a read and a write move one
 * packet just as they do at a tap. Needs a kernel that has io_uring and lets us use it.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { pageSize } from '../../../src/kernel/machine.ts';
import { loadShim, type Shim } from '../../../src/kernel/shim.ts';
import { Uring } from '../../../src/memory/abi.ts';
import type { PathSlot } from '../../../src/memory/blocks.ts';
import { pathCounters } from '../../../src/memory/counters.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { BURST, HEADROOM, Path } from '../../../src/memory/layout.ts';
import { METADATA_BYTES, METADATA_MARK } from '../../../src/memory/metadata.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { OrphanedUring } from '../../../src/paths/tap/orphaned-uring.ts';
import { Kind, UringRing } from '../../../src/paths/tap/uring.ts';
import { UringQueue } from '../../../src/paths/tap/uring-queue.ts';
import { pair } from '../../support/sockets.ts';

const FRAMES = 256;
const FRAME_SIZE = 2048;
const BYTES = 60;
const ADDRESS = { port: 0, queue: 0, path: Path.SYNTHETIC } as const;

const shim = loadShim();
const open: number[] = [];
afterEach(() => {
  for (const fd of open.splice(0)) shim.close(fd);
});

class Death extends Error {
  /** Whether what was being done to the frame is done. */
  readonly late: boolean;
  constructor(late: boolean) {
    super('the worker dies');
    this.late = late;
  }
}

/** One worker after another with their queue, and the network at the other end. */
class Life {
  readonly memory = Memory.create({
    ...{
      pageSize: pageSize(), // the kernel's own: it pins the rings
      ports: 1,
      queues: 1,
      frameSize: FRAME_SIZE,
      framesPerWorker: FRAMES,
      ringEntries: 2048,
    },
  });
  readonly peer: number;
  /** The shim, of which a call may be a worker's last. */
  readonly shim: Shim = { ...shim };
  pool!: FramePool;
  queue!: UringQueue;
  /** Numbers of packets as each end got them. */
  readonly received: number[] = [];
  readonly arrived: number[] = [];
  /** What a worker had pushed, oldest first. */
  readonly pushed: number[] = [];
  readonly prefixed: boolean;
  deaths = 0;
  /** Packets of which nobody knows whether the kernel has sent them. */
  unknown = 0;
  readonly #burst = { at: 0, offset: new Int32Array(BURST), bytes: new Int32Array(BURST) };
  readonly #slot: PathSlot;
  #given = 0;
  #made = 1000;

  /** @param prefixed whether the packets that come have metadata before them */
  constructor(prefixed = false) {
    this.prefixed = prefixed;
    const [tap, peer] = pair(shim);
    open.push(tap, peer);
    this.peer = peer;
    this.#slot = this.memory.slot({ port: 0, queue: 0, path: Path.SYNTHETIC });
    this.#slot.fd = tap;
    this.#slot.metadata = prefixed ? 1 : 0;
    this.pool = new FramePool(this.memory, 0);
    this.pool.owners.recover([]);
    this.#open();
  }

  #open(): void {
    const opened = UringQueue.open(this.shim, this.memory, this.pool, ADDRESS);
    if (typeof opened === 'number') throw new Error(`this kernel refuses io_uring: errno ${-opened}`);
    this.queue = opened;
  }

  get ringFd(): number {
    return this.#slot.uringFd;
  }

  give(count: number): void {
    for (let i = 0; i < count; i++) {
      const number = this.#given++;
      const before = this.prefixed ? METADATA_BYTES : 0;
      const packet = new DataView(new ArrayBuffer(before + BYTES));
      if (before > 0) {
        packet.setUint32(0, number, true);
        packet.setUint16(before - 4, METADATA_MARK, true);
        packet.setUint16(before - 2, number, true);
      }
      packet.setUint32(before, number);
      expect(shim.send(this.peer, packet, packet.byteLength, 0)).toBe(packet.byteLength);
    }
  }

  /** The metadata are next to the packet at `at`, and its own. */
  #checkMetadata(at: number, number: number): void {
    if (!this.prefixed) return;
    const { view } = this.memory;
    expect(view.getUint16(at - 4, true)).toBe(METADATA_MARK);
    expect(view.getUint16(at - 2, true)).toBe(number & 0xffff);
    expect(view.getUint32(at - METADATA_BYTES, true)).toBe(number);
    view.setUint16(at - 4, 0, true); // as the worker does when it has read them
  }

  take(): void {
    const packet = new DataView(new ArrayBuffer(FRAME_SIZE));
    while (shim.recv(this.peer, packet, FRAME_SIZE, 0) === BYTES) this.arrived.push(packet.getUint32(0));
  }

  /**
   * A burst as a worker does it: every second packet is sent back. With `flushAt` the queue is flushed in the middle
   * of it, as is done where packets go out that have no room.
   */
  receive(max: number, flushAt = -1): void {
    const { queue, memory, pool } = this;
    if (queue.rx.ready(max) === 0) return;
    const count = queue.rx.receive(this.#burst, max);
    let room = queue.tx.room(count);
    for (let i = 0; i < count; i++) {
      const at = this.#burst.offset[i]!;
      expect(this.#burst.bytes[i]).toBe(BYTES);
      const number = memory.view.getUint32(at);
      this.#checkMetadata(at, number);
      const goes = number % 2 === 0 && room-- > 0;
      this.#decide(number, goes, () => {
        if (goes) queue.tx.push(at, BYTES);
        else pool.put(at - memory.layout.frames);
      });
      if (i === flushAt) {
        this.flush();
        queue.tx.complete();
      }
    }
    queue.rx.release();
  }

  /** What is done to a packet is decided once its frame says so. */
  #decide(number: number, goes: boolean, work: () => void): void {
    const done = (): void => {
      this.received.push(number);
      if (goes) this.pushed.push(number);
    };
    try {
      work();
    } catch (error) {
      if (error instanceof Death && error.late) done();
      throw error;
    }
    done();
  }

  /** Sends packets of its own making, from free frames. */
  make(count: number): void {
    const { queue, memory, pool } = this;
    for (let i = 0; i < count && pool.count > 0 && queue.tx.room(1) === 1; i++) {
      const address = pool.peek(0);
      pool.setOwner(address, pool.hand);
      pool.remove(1);
      const at = memory.layout.frames + address + HEADROOM;
      const number = this.#made++;
      memory.view.setUint32(at, number);
      queue.tx.push(at, BYTES);
      this.pushed.push(number);
    }
  }

  flush(): void {
    expect(this.queue.tx.flush()).toBe(0);
  }

  /**
   * The worker ends after so many more points at which frames change hands or are read or written, in whatever it
   * does; another takes over.
   */
  dieIn(work: () => void, after: number): void {
    const { pool } = this;
    let left = after;
    const mortal = <T extends unknown[], R>(call: (...args: T) => R) => {
      return (...args: T): R => {
        if (left-- === 0) throw new Death(false);
        const result = call(...args);
        if (left-- === 0) throw new Death(true);
        return result;
      };
    };
    const { readNoted, writeNoted } = shim;
    Object.assign(this.shim, { readNoted: mortal(readNoted), writeNoted: mortal(writeNoted) });
    pool.put = mortal(pool.put.bind(pool));
    pool.setOwner = mortal(pool.setOwner.bind(pool));
    pool.remove = mortal(pool.remove.bind(pool));
    try {
      work();
    } catch (error) {
      if (!(error instanceof Death)) throw error;
    }
    Object.assign(this.shim, { readNoted, writeNoted });
    this.takeOver();
  }

  /** As datapath/takeover.ts does for one queue of one port. */
  takeOver(): void {
    const { memory } = this;
    this.deaths++;
    this.pool = new FramePool(memory, 0);
    const left = new OrphanedUring(shim, memory, this.pool, ADDRESS);
    this.pool.owners.recover([left]);
    const unsent: { at: number; bytes: number }[] = [];
    left.tx.reclaimUnsent((at, bytes) => unsent.push({ at, bytes }));
    const received: { at: number; bytes: number }[] = [];
    while (left.rx.ready(BURST) > 0) {
      const count = left.rx.receive(this.#burst, BURST);
      for (let i = 0; i < count; i++)
        received.push({ at: this.#burst.offset[i]!, bytes: this.#burst.bytes[i]! });
      left.rx.release();
    }
    for (const { at } of [...unsent, ...received])
      this.pool.setOwner(at - memory.layout.frames, this.pool.hand);
    left.detach();
    this.unknown += this.pool.owners.reclaim(left.tag).tx;
    this.#open();
    for (const { at, bytes } of unsent) {
      if (this.queue.tx.room(1) < 1) this.flush();
      this.queue.tx.push(at, bytes);
    }
    for (const { at } of received) {
      this.received.push(memory.view.getUint32(at));
      this.pool.put(at - memory.layout.frames);
    }
  }

  /** Every frame is in one place. */
  audit(): void {
    const { fill, rx, tx, completing } = this.queue.ledger();
    expect([fill, rx, tx, completing].every((count) => count >= 0)).toBe(true);
    expect(this.pool.count + fill + rx + tx + completing).toBe(FRAMES);
    expect(this.pool.owners.duplicates([this.queue])).toBe(0);
  }

  /** A round as a worker makes it; `flushAt` as of {@link receive}. */
  round(flushAt = -1): void {
    this.receive(BURST, flushAt);
    this.queue.tx.complete();
    this.flush();
    this.take();
  }

  /** Until a packet that comes is expected to come alone. */
  calm(): void {
    this.settle();
    this.give(1);
    this.settle();
  }

  /** Until nothing moves any more. */
  settle(): void {
    for (let quiet = 0; quiet < 3; ) {
      const before = this.received.length;
      this.round();
      quiet = this.received.length === before ? quiet + 1 : 0;
    }
  }

  get given(): number {
    return this.#given;
  }

  close(): void {
    this.queue.detach();
  }
}

const counted = (life: Life) => {
  const counter = pathCounters(life.memory, 0, 0, Path.SYNTHETIC);
  return (name: keyof typeof counter): number => life.memory.doubles[counter[name]]!;
};

describe('a tap queue over io_uring', () => {
  it('makes no system call while nothing comes', () => {
    const life = new Life();
    const count = counted(life);
    const idle = (): void => {
      for (let i = 0; i < 100; i++) {
        expect(life.queue.rx.ready(BURST)).toBe(0);
        life.flush();
      }
    };
    for (const number of [0, 1]) {
      life.give(1);
      life.settle();
      expect(life.received).toContain(number);
      idle(); // the looks for another one end
      const before = count('kicks');
      idle();
      expect(count('kicks')).toBe(before);
      expect(life.queue.ledger()).toEqual({ fill: 0, rx: 0, tx: 0, completing: 0 });
      expect(life.pool.count).toBe(FRAMES);
    }
    life.close();
  });

  it('is empty only if nothing waits at that moment, whatever the last look found', () => {
    const step = fc.oneof(
      fc.record({ what: fc.constant('rounds' as const), count: fc.integer({ min: 1, max: 70 }) }),
      fc.record({ what: fc.constant('give' as const), count: fc.integer({ min: 1, max: 40 }) }),
      fc.record({ what: fc.constant('drain' as const), count: fc.constant(0) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.boolean(), (steps, prefixed) => {
        const life = new Life(prefixed);
        for (const { what, count } of [...steps, { what: 'drain', count: 0 }]) {
          if (what === 'give') life.give(count);
          else if (what === 'rounds') for (let i = 0; i < count; i++) life.round();
          else {
            while (life.queue.ready(1, true) > 0) life.receive(BURST);
            expect(life.received).toHaveLength(life.given);
          }
          life.audit();
        }
        expect(life.received).toEqual([...life.received].sort((a, b) => a - b));
        life.close();
      }),
      { numRuns: 60 },
    );
  });

  it('reads and answers packets that come alone with one call each', () => {
    const life = new Life();
    const count = counted(life);
    life.calm();
    for (let number = 1; number < 100; number++) {
      life.give(1);
      const before = count('kicks');
      life.round();
      expect(life.received).toHaveLength(number + 1);
      expect(count('kicks') - before).toBe(number % 2 === 0 ? 2 : 1);
      expect(life.arrived).toHaveLength((number >> 1) + 1);
      life.round(); // finds nothing
      life.audit();
    }
    expect(count('txPackets')).toBe(50);
    expect(count('txPosted')).toBe(50);
    life.close();
  });

  it('reads lots as soon as two packets come in a row', () => {
    const life = new Life();
    life.give(1);
    life.settle();
    life.give(2 + 4 + 16);
    const sizes: number[] = [];
    while (life.received.length < life.given) {
      const before = life.received.length;
      life.receive(BURST);
      life.flush();
      sizes.push(life.received.length - before);
    }
    life.settle();
    expect(sizes).toEqual([1, 1, 4, 16]);
    expect(life.received).toEqual(Array.from({ length: life.given }, (_, i) => i));
    life.audit();
    life.close();
  });

  it('does not look for a packet without a free frame, and goes on when there is one', () => {
    const life = new Life();
    const count = counted(life);
    life.give(1);
    life.settle();
    life.give(1);
    life.receive(BURST); // one that came alone: its frame was the one that waits for packets
    expect(life.received).toEqual([0, 1]);
    const { pool } = life;
    const taken: number[] = [];
    while (pool.count > 0) {
      taken.push(pool.peek(0));
      pool.setOwner(taken.at(-1)!, pool.hand);
      pool.remove(1);
    }
    life.give(3);
    const before = count('kicks');
    for (let i = 0; i < 100; i++) {
      expect(life.queue.rx.ready(BURST)).toBe(0);
      life.flush();
    }
    expect(count('kicks')).toBe(before);
    for (const address of taken) pool.put(address);
    life.settle();
    expect(life.received).toEqual([0, 1, 2, 3, 4]);
    life.audit();
    life.close();
  });

  it('submits a burst of writes and the next burst of reads in one enter', () => {
    const life = new Life();
    const count = counted(life);
    life.give(200);
    while (life.received.length < 4 + 16) {
      life.receive(BURST); // the lots grow: 4, 16, 64
      life.flush();
    }
    const before = count('kicks');
    life.receive(BURST);
    life.flush();
    life.receive(BURST);
    life.flush();
    expect(count('kicks') - before).toBe(2);
    expect(life.received).toHaveLength(4 + 16 + 2 * BURST);
    life.close();
  });

  it('publishes staged packets at the flush alone', () => {
    const life = new Life();
    life.make(5);
    life.take();
    expect(life.arrived).toEqual([]);
    expect(life.queue.ledger()).toMatchObject({ tx: 5, completing: 0 });
    life.audit();
    life.flush();
    life.take();
    expect(life.arrived).toHaveLength(5);
    life.close();
  });

  it('takes back what is staged, and goes on receiving', () => {
    const life = new Life();
    life.settle();
    life.make(3);
    life.give(2);
    const back: number[] = [];
    expect(
      life.queue.tx.reclaimUnsent((at) => {
        back.push(life.memory.view.getUint32(at));
        life.pool.put(at - life.memory.layout.frames);
      }),
    ).toBe(3);
    expect(back).toEqual([1000, 1001, 1002]);
    life.settle();
    expect(life.received).toEqual([0, 1]);
    expect(life.arrived).toEqual([0]);
    life.audit();
    life.close();
  });

  it('drops and counts a packet that is longer than a frame', () => {
    const life = new Life();
    for (const times of [1, 2]) {
      // The second time in a look for a single packet.
      expect(shim.send(life.peer, new Uint8Array(FRAME_SIZE), FRAME_SIZE, 0)).toBe(FRAME_SIZE);
      life.give(1);
      life.settle();
      expect(life.received).toHaveLength(times);
      expect(counted(life)('rxTooLong')).toBe(times);
      expect(counted(life)('rxErrors')).toBe(0);
      life.audit();
    }
    life.close();
  });

  it('sends frames of another worker, which are not registered', () => {
    const life = new Life();
    const { memory } = life;
    // Beyond this worker's frames, inside the memory.
    const at = memory.layout.frames + FRAMES * FRAME_SIZE - FRAME_SIZE + HEADROOM;
    memory.words[(memory.slot(ADDRESS).offset('uring') + Uring.framesBytes) >> 2]! -= FRAME_SIZE;
    const ring = new UringRing(shim, memory, ADDRESS); // sees a range that ends before the last frame
    memory.view.setUint32(at, 77);
    ring.settle(ring.write(0, at, BYTES, at - memory.layout.frames));
    ring.sq.commit(1);
    expect(ring.enter(1)).toBe(1);
    const done = ring.cq.pending() - 1; // behind those of the queue
    expect(ring.doneKind(ring.cq.slot(done))).toBe(Kind.WRITE);
    expect(ring.doneResult(ring.cq.slot(done))).toBe(BYTES);
    life.take();
    expect(life.arrived).toEqual([77]);
    life.close();
  });

  it('tells of a file that is gone', () => {
    const life = new Life();
    life.settle();
    shim.close(life.ringFd);
    life.make(2);
    expect(life.queue.tx.flush()).toBe(Errno.EBADF);
    expect(counted(life)('kickErrors')).toBe(1);
  });

  /** Every packet came, and went, in order and once, at the end of a life. */
  const expectAllOnce = (life: Life): void => {
    expect(life.received).toEqual(Array.from({ length: life.given }, (_, i) => i));
    // In order and once each. A worker may die before it knows that its last push has come about.
    const known = new Set(life.pushed);
    expect(life.arrived.filter((number) => known.has(number))).toEqual(life.pushed);
    expect(new Set(life.arrived).size).toBe(life.arrived.length);
    expect(life.arrived.length - life.pushed.length).toBeLessThanOrEqual(life.deaths);
    // Each packet that was posted is in one counter, but for one that a worker died in the middle of counting.
    const count = counted(life);
    const done = count('txPackets') + count('txErrors') + count('txRescued');
    expect(Math.abs(count('txPosted') - done)).toBeLessThanOrEqual(life.deaths);
    expect(life.unknown).toBe(0);
  };

  it('loses and doubles no packet that comes alone, wherever the worker dies', () => {
    let latest = 0;
    const before: ((life: Life) => void)[] = [
      () => {}, // number 1, which is not answered
      (life) => life.calm(), // number 2, which is
      (life) => {
        life.give(1); // the second in a row, and answered
        life.round();
      },
      (life) => {
        life.calm();
        life.give(1); // the second in a row, not answered, while another one goes out
        life.round();
        life.make(1);
      },
    ];
    for (const prelude of before) {
      for (let after = 0; after < 30; after++) {
        for (const flushAt of [-1, 0]) {
          const life = new Life(after % 2 === 0);
          life.calm();
          prelude(life);
          life.give(1);
          life.dieIn(() => {
            life.round(flushAt);
            latest = Math.max(latest, after);
          }, after);
          life.settle();
          life.audit();
          life.close();
          expectAllOnce(life);
        }
      }
    }
    expect(latest).toBe(29); // that far no worker came: all points at which one can die are among these
  });

  const step = fc.record({
    what: fc.constantFrom(
      'give',
      'receive',
      'make',
      'flush',
      'complete',
      'audit',
      'die',
      'die',
      'calm' as const,
    ),
    count: fc.oneof(fc.integer({ min: 1, max: 2 }), fc.integer({ min: 1, max: 80 })),
    after: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 200 })),
    victim: fc.constantFrom('receive', 'make', 'flush', 'complete', 'round' as const),
  });

  type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;
  const make = (what: Step['what'], count: number, after = 0): Step => ({
    ...{ what, count, after, victim: 'receive' },
  });
  /** Deaths that random ones seldom are: in a burst after a flush in the middle of it, and in the middle of a push. */
  const rare: [Step[], boolean][] = [
    [[make('give', 4), make('receive', 4), make('give', 16), make('die', 16, 45)], false],
    [[make('give', 17), make('receive', 4), make('die', 13, 63)], true],
  ];

  it('loses and doubles neither packets nor frames, whatever workers die of', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, prefixed) => {
        const life = new Life(prefixed);
        const act = (what: string, count: number): void => {
          if (what === 'receive') life.receive(count % BURST || BURST, count >> 3);
          else if (what === 'make') life.make(count);
          else if (what === 'complete') life.queue.tx.complete();
          else if (what === 'round') life.round(count >> 3);
          else if (what === 'calm') life.calm();
          else life.flush();
        };
        for (const { what, count, after, victim } of steps) {
          if (what === 'give') {
            if (life.given - life.received.length < 100) life.give(count); // what the socket holds
          } else if (what === 'audit') life.audit();
          else if (what === 'die') life.dieIn(() => act(victim, count), after);
          else act(what, count);
          life.take();
        }
        life.settle();
        life.audit();
        life.close();
        for (const fd of open.splice(0)) shim.close(fd);
        expectAllOnce(life);
      }),
      { numRuns: 500, examples: rare },
    );
  });
});
