/**
 * The two ends of a single-producer single-consumer ring: the project's only ring code.
 *
 * One Producer and one Consumer serve AF_XDP's four rings, io_uring's submission and completion rings, and our own rings
 * in memory. These differ only in the place of their words.
 *
 * - Cursors run freely through 32 bits (`| 0`) and are masked only to index: all slots can be used.
 * - Stage, then publish: `reserve` and write slots, then `commit` once; `peek` and read slots, then `release` once.
 *   That is one Atomics call each per burst (7 ns), and plain accesses to the slots.
 * - Ordering: a thread that reads the producer word sees the plain writes before its `Atomics.store` (JS memory model:
 *   synchronizes-with). The kernel uses store-release and load-acquire (net/xdp/xsk_queue.h, io_uring/io_uring.c).
 * - The other side's cursor is cached, and reloaded only when the cached one shows too few slots.
 * - Both classes start from the words in memory, so a new worker continues from the last published cursor.
 *
 * Each object belongs to one thread.
 */
import { LINE } from './layout.ts';

/** The words of a ring: Int32 indices into the shared memory. */
export interface RingPlace {
  readonly producer: number;
  readonly consumer: number;
  /** -1 if the ring has no flags word. */
  readonly flags: number;
  /** The first slot. */
  readonly slots: number;
  /** Words of a slot, a power of two: 2 for addresses, 4 for descriptors, 16 for SQEs. */
  readonly slotWords: number;
  /** A power of two. */
  readonly entries: number;
}

/** Bytes to the words of a ring between two workers: two cursors on lines of their own, then the entries. */
export const WORKER_RING = { producer: 0, consumer: LINE, entries: 2 * LINE } as const;

/** Such a ring, at that byte offset. */
export const placeAt = (at: number, entries: number, slotWords: number): RingPlace => ({
  producer: (at + WORKER_RING.producer) >> 2,
  consumer: (at + WORKER_RING.consumer) >> 2,
  flags: -1,
  slots: (at + WORKER_RING.entries) >> 2,
  slotWords,
  entries,
});

/** XDP_RING_NEED_WAKEUP and IORING_SQ_NEED_WAKEUP are both bit 0. */
const NEED_WAKEUP = 1;

export class Producer {
  readonly entries: number;
  readonly #words: Int32Array;
  readonly #producer: number;
  readonly #consumer: number;
  readonly #flags: number;
  readonly #slots: number;
  readonly #shift: number;
  readonly #mask: number;
  #cursor: number;
  #seen: number;

  constructor(words: Int32Array, place: RingPlace) {
    this.entries = place.entries;
    this.#words = words;
    this.#producer = place.producer;
    this.#consumer = place.consumer;
    this.#flags = place.flags;
    this.#slots = place.slots;
    this.#shift = 31 - Math.clz32(place.slotWords);
    this.#mask = place.entries - 1;
    this.#seen = Atomics.load(words, place.consumer);
    this.#cursor = Atomics.load(words, place.producer);
  }

  /** How many of `wanted` slots are free. */
  reserve(wanted: number): number {
    let free = this.entries - ((this.#cursor - this.#seen) | 0);
    if (free < wanted) {
      this.#seen = Atomics.load(this.#words, this.#consumer);
      free = this.entries - ((this.#cursor - this.#seen) | 0);
    }
    return Math.min(free, wanted);
  }

  /** Word index of the i-th slot after the last commit. */
  slot(i: number): number {
    return this.#slots + (((this.#cursor + i) & this.#mask) << this.#shift);
  }

  /** Publishes `count` written slots. */
  commit(count: number): void {
    this.#cursor = (this.#cursor + count) | 0;
    Atomics.store(this.#words, this.#producer, this.#cursor);
  }

  /** Published slots that the other side has not consumed; reloads its cursor. */
  pending(): number {
    this.#seen = Atomics.load(this.#words, this.#consumer);
    return (this.#cursor - this.#seen) | 0;
  }

  /** Word index of the i-th pending slot: 0 is the oldest as of the last `pending()`. */
  pendingSlot(i: number): number {
    return this.slotAt(this.#seen + i);
  }

  /** Word index of the slot at a free-running cursor. */
  slotAt(cursor: number): number {
    return this.#slots + ((cursor & this.#mask) << this.#shift);
  }

  /** The other side's cursor, as cached. */
  get consumed(): number {
    return this.#seen;
  }

  /** Byte offset of the slots, and the mask of cursors: for {@link RingOperations}. */
  get slotsAt(): number {
    return this.#slots << 2;
  }

  get mask(): number {
    return this.#mask;
  }

  /** All slots ever committed, wrapping. */
  get cursor(): number {
    return this.#cursor;
  }

  /** Whether the other side asks for a wake-up. After `commit`: its store and this load are sequentially consistent. */
  get needWakeup(): boolean {
    return (Atomics.load(this.#words, this.#flags) & NEED_WAKEUP) !== 0;
  }
}

export class Consumer {
  readonly entries: number;
  readonly #words: Int32Array;
  readonly #producer: number;
  readonly #consumer: number;
  readonly #slots: number;
  readonly #shift: number;
  readonly #mask: number;
  #cursor: number;
  #seen: number;

  constructor(words: Int32Array, place: RingPlace) {
    this.entries = place.entries;
    this.#words = words;
    this.#producer = place.producer;
    this.#consumer = place.consumer;
    this.#slots = place.slots;
    this.#shift = 31 - Math.clz32(place.slotWords);
    this.#mask = place.entries - 1;
    this.#cursor = Atomics.load(words, place.consumer);
    this.#seen = Atomics.load(words, place.producer);
  }

  /** How many slots can be read, `wanted` at most. */
  peek(wanted: number): number {
    let ready = (this.#seen - this.#cursor) | 0;
    if (ready < wanted) {
      this.#seen = Atomics.load(this.#words, this.#producer);
      ready = (this.#seen - this.#cursor) | 0;
    }
    return Math.min(ready, wanted);
  }

  /** Word index of the i-th unreleased slot. */
  slot(i: number): number {
    return this.#slots + (((this.#cursor + i) & this.#mask) << this.#shift);
  }

  /** Gives the `count` oldest slots back to the producer. */
  release(count: number): void {
    this.#cursor = (this.#cursor + count) | 0;
    Atomics.store(this.#words, this.#consumer, this.#cursor);
  }

  /** Byte offset of the slots, and the mask of cursors: for {@link RingOperations}. */
  get slotsAt(): number {
    return this.#slots << 2;
  }

  get mask(): number {
    return this.#mask;
  }

  /** All slots ever released, wrapping. */
  get cursor(): number {
    return this.#cursor;
  }

  /** Slots published and not released; reloads the producer's cursor. */
  pending(): number {
    this.#seen = Atomics.load(this.#words, this.#producer);
    return (this.#seen - this.#cursor) | 0;
  }
}
