/**
 * The memory path: AF_XDP's four rings without a kernel. The other end is a thread that holds a
 * {@link MemoryPeer} for each queue: the lab's network without root, tests, benchmarks.
 *
 * The device goes as a NIC does, whenever it likes, and the peer has to notice. Two words of the path slot
 * settle it, in Dekker's manner: the peer says "busy", then looks whether the path is still there; the
 * device says "gone", then looks whether the peer is busy. Atomics are sequentially consistent, so at
 * least one of them sees the other. After {@link MemoryDevice.disarm} no peer touches the rings: what it
 * has not taken by then may be taken back without anything being sent twice.
 */
import { Xsk } from '../../kernel/abi.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import {
  Driver,
  HEADROOM,
  OWN_RING,
  type PathId,
  PathSlot,
  Reader,
  Ring,
  type RingId,
  WorkerBlock,
} from '../../memory/layout.ts';
import { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';
import { limitLength, roomOf } from '../frame-room.ts';
import type { PathDescription, PathDevice } from '../path.ts';
import { ringPlace } from '../ring-queue.ts';

/** How long a peer's burst is waited for. It takes microseconds; a thread that was ended in it never answers. */
const BURST_MILLIS = 250;

export class MemoryDevice implements PathDevice {
  readonly description: PathDescription;
  /** It has no descriptors: all of it is in the memory. */
  readonly holdings = {};
  changed = (): void => {};
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;

  constructor(memory: Memory, port: number, path: PathId, name: string) {
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.description = { driver: 'memory', device: name, mode: 'rings in memory', tie: 'memory' };
  }

  open(): void {
    const { words, layout } = this.#memory;
    limitLength(this.#memory, this.#port, this.#path, roomOf(layout.geometry.frameSize));
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      const slot = layout.slot(this.#port, queue, this.#path);
      for (const ring of Object.values(Ring)) {
        const at = layout.ring(this.#port, queue, this.#path, ring) >> 2;
        words.fill(0, at, at + (layout.ringRoom(ring) >> 2));
        const geometry = (slot + PathSlot.xsk + Xsk.ring + ring * 24) >> 2;
        words[geometry] = OWN_RING.producer;
        words[geometry + 1] = OWN_RING.consumer;
        words[geometry + 2] = OWN_RING.flags;
        words[geometry + 3] = OWN_RING.desc;
        words[(slot + PathSlot.xsk + Xsk.ringEntries + ring * 4) >> 2] = layout.geometry.ringEntries;
      }
      words[(slot + PathSlot.fd) >> 2] = -1;
      words[(slot + PathSlot.staged) >> 2] = 0;
      words[(slot + PathSlot.giving) >> 2] = 0;
      words[(slot + PathSlot.consumed) >> 2] = 0;
      words[(slot + PathSlot.reader) >> 2] = Reader.ASKED;
      Atomics.store(words, (slot + PathSlot.peerBusy) >> 2, 0);
      Atomics.store(words, (slot + PathSlot.driver) >> 2, Driver.MEMORY);
    }
  }

  /** From here on a peer may attach: it waits for the incarnation to be odd. */
  arm(): void {
    this.#count(1);
  }

  /** Sends the peers away, and waits for those that are in the middle of a burst. */
  disarm(): void {
    this.#count(0);
    const { words, layout } = this.#memory;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      const busy = (layout.slot(this.#port, queue, this.#path) + PathSlot.peerBusy) >> 2;
      Atomics.wait(words, busy, 1, BURST_MILLIS);
    }
  }

  close(): void {
    this.disarm();
    const { words, layout } = this.#memory;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      Atomics.store(
        words,
        (layout.slot(this.#port, queue, this.#path) + PathSlot.driver) >> 2,
        Driver.CLOSED,
      );
    }
  }

  dropped(_queue: number): Record<KernelCounter, number> {
    return NOTHING_DROPPED;
  }

  #count(parity: 0 | 1): void {
    const { words, layout } = this.#memory;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      const at = (layout.slot(this.#port, queue, this.#path) + PathSlot.incarnation) >> 2;
      const now = Atomics.load(words, at);
      if ((now & 1) !== parity) Atomics.store(words, at, now + 1);
    }
  }
}

/**
 * What plays the kernel on one queue of a memory path. Belongs to the thread of the network, one at a time.
 * Once the path is gone every call answers 0, and a new peer has to be attached.
 */
export class MemoryPeer {
  readonly #memory: Memory;
  readonly #incarnationAt: number;
  readonly #incarnation: number;
  readonly #busyAt: number;
  readonly #worker: number;
  readonly #fill: Consumer;
  readonly #rx: Producer;
  readonly #tx: Consumer;
  readonly #completion: Producer;

  private constructor(memory: Memory, port: number, queue: number, path: PathId, incarnation: number) {
    const { layout, words } = memory;
    const slot = layout.slot(port, queue, path);
    const place = (ring: RingId) => ringPlace(memory, slot, layout.ring(port, queue, path, ring), ring);
    this.#memory = memory;
    this.#incarnationAt = (slot + PathSlot.incarnation) >> 2;
    this.#incarnation = incarnation;
    this.#busyAt = (slot + PathSlot.peerBusy) >> 2;
    this.#worker = layout.worker(queue);
    this.#fill = new Consumer(words, place(Ring.FILL));
    this.#rx = new Producer(words, place(Ring.RX));
    this.#tx = new Consumer(words, place(Ring.TX));
    this.#completion = new Producer(words, place(Ring.COMPLETION));
  }

  /** The peer of a queue, or undefined while that path is not there. */
  static attach(memory: Memory, port: number, queue: number, path: PathId): MemoryPeer | undefined {
    const at = (memory.layout.slot(port, queue, path) + PathSlot.incarnation) >> 2;
    const incarnation = Atomics.load(memory.words, at);
    if ((incarnation & 1) === 0) return undefined;
    return new MemoryPeer(memory, port, queue, path, incarnation);
  }

  /** Whether the path this peer attached to is still there; it may be gone when this returns. */
  get alive(): boolean {
    return Atomics.load(this.#memory.words, this.#incarnationAt) === this.#incarnation;
  }

  /** Packets delivered and not received yet; 0 once the path is gone. */
  get undelivered(): number {
    return this.alive ? this.#rx.pending() : 0;
  }

  /**
   * Delivers up to `count` packets: `write` gets the offset of each frame in the shared memory and
   * answers its length, or -1 when there are no more. Returns how many went; fewer when the queue
   * has no empty frames or its receive ring is full.
   */
  deliver(count: number, write: (offset: number) => number): number {
    if (!this.#enter()) return 0;
    try {
      return this.#deliver(count, write);
    } finally {
      this.#leave();
    }
  }

  /** Takes up to `count` sent packets: `read` gets each one's offset and length. Returns how many. */
  collect(count: number, read: (offset: number, length: number) => void): number {
    if (!this.#enter()) return 0;
    try {
      return this.#collect(count, read);
    } finally {
      this.#leave();
    }
  }

  /** Begins a burst, unless the path is gone. Two Atomics: 15 ns a burst. */
  #enter(): boolean {
    Atomics.store(this.#memory.words, this.#busyAt, 1);
    if (this.alive) return true;
    this.#leave();
    return false;
  }

  #leave(): void {
    const { words } = this.#memory;
    Atomics.store(words, this.#busyAt, 0);
    // Only a device that goes may be waiting; a notify that nobody needs costs three times the store.
    if (!this.alive) Atomics.notify(words, this.#busyAt);
  }

  #deliver(count: number, write: (offset: number) => number): number {
    const { words, layout } = this.#memory;
    const room = Math.min(this.#fill.peek(count), this.#rx.reserve(count));
    let done = 0;
    while (done < room) {
      const address = words[this.#fill.slot(done)]! + HEADROOM;
      const length = write(layout.frames + address);
      if (length < 0) break;
      const slot = this.#rx.slot(done);
      words[slot] = address;
      words[slot + 1] = 0;
      words[slot + 2] = length;
      words[slot + 3] = 0;
      done++;
    }
    if (done > 0) {
      this.#rx.commit(done);
      this.#fill.release(done);
      this.#wake();
    }
    return done;
  }

  #collect(count: number, read: (offset: number, length: number) => void): number {
    const { words, layout } = this.#memory;
    const ready = Math.min(this.#tx.peek(count), this.#completion.reserve(count));
    for (let i = 0; i < ready; i++) {
      const slot = this.#tx.slot(i);
      read(layout.frames + words[slot]!, words[slot + 2]!);
      const done = this.#completion.slot(i);
      words[done] = words[slot]!;
      words[done + 1] = 0;
    }
    if (ready > 0) {
      this.#completion.commit(ready);
      this.#tx.release(ready);
    }
    return ready;
  }

  /** As an interrupt would. The worker looks at its rings again after it has said that it sleeps. */
  #wake(): void {
    const { words } = this.#memory;
    if (Atomics.load(words, (this.#worker + WorkerBlock.sleeping) >> 2) === 0) return;
    const doorbell = (this.#worker + WorkerBlock.doorbell) >> 2;
    Atomics.add(words, doorbell, 1);
    Atomics.notify(words, doorbell);
  }
}
