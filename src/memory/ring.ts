/**
 * The two ends of a single-producer single-consumer ring, the only ring code there is.
 *
 * The same two classes drive AF_XDP's four rings, io_uring's submission and completion rings, and our own rings in
 * memory. They differ only in where the words lie.
 *
 * - Cursors run freely through 32 bits (`| 0`) and are masked only to index: no slot is wasted.
 * - Stage, then publish: `reserve` and write slots, then `commit` once; `peek` and read slots, then
 *   `release` once. One Atomics call each per burst (7 ns), plain accesses for the slots.
 * - Ordering: plain writes to slots before `Atomics.store` of the producer word are visible to
 *   whoever reads that value (JS memory model: synchronizes-with); the kernel side uses
 *   store-release and load-acquire (net/xdp/xsk_queue.h, io_uring/io_uring.c).
 * - The other side's cursor is cached and reloaded only when the cached one says no.
 * - Both classes start from the words in memory, so a new worker resumes where the old one published.
 *
 * Each object belongs to one thread.
 */
import { WORKER_RING } from './layout.ts';

/** Where a ring lies: word (Int32) indices into the shared memory. */
export interface RingPlace {
  readonly producer: number;
  readonly consumer: number;
  /** Index of the flags word; -1 if the ring has none. */
  readonly flags: number;
  /** Index of the first slot's first word. */
  readonly slots: number;
  /** Words of a slot: a power of two (2: addresses, 4: descriptors, 16: SQEs). */
  readonly slotWords: number;
  /** A power of two. */
  readonly entries: number;
}

/** A ring of our own, its two cursors on lines of their own: see `WORKER_RING` in layout.ts. */
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

  /** How many of `wanted` slots may be written now. */
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

  /** Published slots the other side has not consumed; reloads its cursor. */
  pending(): number {
    this.#seen = Atomics.load(this.#words, this.#consumer);
    return (this.#cursor - this.#seen) | 0;
  }

  /** Word index of the i-th pending slot: 0 is the oldest as of the last `pending()`. */
  pendingSlot(i: number): number {
    return this.slotAt(this.#seen + i);
  }

  /** Word index of the slot a free-running cursor points at. */
  slotAt(cursor: number): number {
    return this.#slots + ((cursor & this.#mask) << this.#shift);
  }

  /** The other side's cursor as of the last look at it. */
  get consumed(): number {
    return this.#seen;
  }

  /** Where the slots lie, in bytes, and what cursors are masked with: for {@link RingOperations}. */
  get slotsAt(): number {
    return this.#slots << 2;
  }

  get mask(): number {
    return this.#mask;
  }

  /** Everything ever committed, wrapping. */
  get cursor(): number {
    return this.#cursor;
  }

  /**
   * Whether the other side asks to be woken. Read after `commit`: its Atomics.store and this
   * Atomics.load are sequentially consistent, which release and acquire alone would not give.
   */
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

  /** How many slots can be read now, `wanted` at most. */
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

  /** Where the slots lie, in bytes, and what cursors are masked with: for {@link RingOperations}. */
  get slotsAt(): number {
    return this.#slots << 2;
  }

  get mask(): number {
    return this.#mask;
  }

  /** Everything ever released, wrapping. */
  get cursor(): number {
    return this.#cursor;
  }

  /** Slots produced and not released; reloads the producer's cursor. */
  pending(): number {
    this.#seen = Atomics.load(this.#words, this.#producer);
    return (this.#seen - this.#cursor) | 0;
  }
}
