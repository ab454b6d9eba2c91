/**
 * Delivery rings: packets from a worker to the application's thread, descriptors and never bytes. One for each port and queue.
 *
 * The application reads a frame where it is, and releases entries in their order. The worker takes the frames of released
 * entries back, so that the application writes one word a burst and no owners. Three cursors: the worker publishes up to
 * `producer`, the application has released up to `consumer`, and the worker has taken back up to `home`.
 *
 * ```
 *   home        entries whose frames are the worker's to take back
 *   consumer    entries that the application may read: its frames stay as they are
 *   producer    free slots, up to `home` again
 * ```
 *
 * An application that stalls, or ends, keeps a ring's frames and no more. A frame is refused when its pool has few free ones, which
 * fill rings leave while they do not run low: {@link FramePool.spare}.
 *
 * A worker may die between any two statements. A frame's owner is the same from before it is published until it is taken back,
 * so its successor decides by the ring: see the constructor of {@link DeliverySender}.
 */
import { deliveryOwner } from './bit-fields.ts';
import type { FramePool } from './frames.ts';
import { DELIVERY_ENTRY } from './geometry.ts';
import { HEADROOM, LINE, type PathId } from './layout.ts';
import { MetadataBit } from './metadata.ts';
import { Consumer, Producer, placeAt, type RingPlace } from './ring.ts';
import type { Memory } from './shared.ts';
import { WallClock } from './wall-clock.ts';

/** The words of an entry. */
const Entry = {
  address: 0,
  /** Length, path << 16, checksum << 18. */
  bytes: 1,
  hash: 2,
  rule: 3,
  /** Nanoseconds since 1970, two words. */
  timestamp: 4,
  /** Nanoseconds of the device's clock, two words. */
  time: 6,
} as const;
const ENTRY_WORDS = DELIVERY_ENTRY >> 2;

/** Packets of one wake-up after which the next one may wait for more. */
const BULK = 64;
/** Packets that are not held back: or as many as a quarter of the ring, if it is small. */
const MANY = 512;
/** Rounds for which fewer packets are held back: some tens of microseconds. */
const MAX_HELD = 64;

/** The worker's third cursor is on the line of its first. */
const HOME = LINE / 2;

const deliveryPlace = ({ layout }: Memory, port: number, queue: number): RingPlace =>
  placeAt(layout.delivery(port, queue), layout.deliveryEntries, ENTRY_WORDS);

/** Packets that the application has not released. Any thread: a number that may be old. */
export function unreadDeliveries(memory: Memory, port: number, queue: number): number {
  const { producer, consumer } = deliveryPlace(memory, port, queue);
  return (Atomics.load(memory.words, producer) - Atomics.load(memory.words, consumer)) | 0;
}

/** The arrays of a burst, whose packets are delivered. */
interface DeliveredArrays {
  readonly path: Uint8Array;
  readonly hash: Int32Array;
  readonly rule: Int32Array;
  readonly time: BigUint64Array;
  readonly checksum: Uint8Array;
  /** `MetadataBit`s. */
  readonly metadata: number;
}

/** The worker's end of a ring. Belongs to its thread. */
export class DeliverySender {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #ring: Producer;
  readonly #pool: FramePool;
  readonly #burst: DeliveredArrays;
  /** The halves of `burst.time`. */
  readonly #times: Int32Array;
  readonly #clock = new WallClock();
  readonly #frames: number;
  readonly #owner: number;
  readonly #homeAt: number;
  readonly #reserve: number;
  /** Index of the word with the number of free frames, for each worker. */
  readonly #freeAt: readonly number[];
  readonly #framesPerWorker: number;
  readonly #shift: number;
  readonly #many: number;
  #home: number;
  #staged = 0;
  #copies = 0;
  /** Published packets, and rounds with any, since the application was woken last; and packets that it was woken for then. */
  #unannounced = 0;
  #announced = 0;
  #held = 0;

  /**
   * Marks the frames of entries that the application has released, and that a dead worker had not taken back, as in hand: the
   * recovery of the pool frees them. Before it.
   */
  constructor(memory: Memory, pool: FramePool, burst: DeliveredArrays, port: number, queue: number) {
    const { words, layout, workers } = memory;
    const { frameSize, framesPerWorker } = layout.geometry;
    this.#words = words;
    this.#bytes = memory.bytes;
    this.#ring = new Producer(words, deliveryPlace(memory, port, queue));
    this.#pool = pool;
    this.#burst = burst;
    this.#times = new Int32Array(burst.time.buffer, burst.time.byteOffset, 2 * burst.time.length);
    this.#frames = layout.frames;
    this.#owner = deliveryOwner(queue);
    this.#homeAt = (layout.delivery(port, queue) + HOME) >> 2;
    this.#reserve = pool.reserve;
    this.#freeAt = workers.map((worker) => worker.at('poolCount'));
    this.#framesPerWorker = framesPerWorker;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#many = Math.min(MANY, this.#ring.entries >> 2);
    this.#home = words[this.#homeAt]!;
    this.#adopt();
  }

  /** The dead worker may have taken some of them back: they have another owner. */
  #adopt(): void {
    const ring = this.#ring;
    ring.pending(); // reloads the application's cursor
    const { consumed } = ring;
    for (let at = this.#home; at !== consumed; at = (at + 1) | 0) {
      const address = this.#words[ring.slotAt(at)]!;
      if (this.#pool.ownerOf(address) === this.#owner) this.#pool.setOwner(address, this.#pool.hand);
    }
    this.#home = consumed;
    this.#words[this.#homeAt] = consumed;
  }

  /**
   * Stages packet `i` of the burst, whose bytes are at `offset`. Its frame is the application's from now on.
   *
   * @returns false if there is no room for it, or its pool has few frames left: it is the caller's then
   */
  push(i: number, offset: number, length: number): boolean {
    const address = offset - this.#frames;
    if (this.#isFull() || !this.#isLent(address)) return false;
    this.#stage(i, address, length);
    return true;
  }

  /** The same with a copy of the packet in a frame of this worker's. */
  pushCopy(i: number, offset: number, length: number): boolean {
    const pool = this.#pool;
    if (pool.count <= this.#reserve || length > pool.frameSize - HEADROOM || this.#isFull()) return false;
    const address = pool.peek(0) + HEADROOM;
    const at = this.#frames + address;
    this.#bytes.copyWithin(at, offset, offset + length);
    this.#stage(i, address, length);
    pool.remove(1);
    this.#copies++;
    return true;
  }

  /** Staged packets. */
  get staged(): number {
    return this.#staged;
  }

  /** Of the staged packets those that are copies. */
  get copies(): number {
    return this.#copies;
  }

  /** Publishes the staged packets. */
  commit(): void {
    this.#ring.commit(this.#staged);
    this.#unannounced += this.#staged;
    this.#staged = this.#copies = 0;
  }

  /** Takes back the frames that the application has released. Costs nothing while it has none. */
  collect(): void {
    if (this.#home !== this.#ring.cursor) this.#collect();
  }

  /**
   * Whether the caller wakes the application now. Once a round: at once for few packets; of many the application gets
   * {@link MANY} together, or what there is after {@link MAX_HELD} rounds, since a wake-up costs both threads as much as hundreds
   * of packets. `sleeps`: no round follows.
   */
  announces(sleeps: boolean): boolean {
    const count = this.#unannounced;
    if (count === 0) return false;
    if (!sleeps && this.#announced >= BULK && count < this.#many && ++this.#held < MAX_HELD) return false;
    this.#announced = count;
    this.#unannounced = this.#held = 0;
    return true;
  }

  /** Visits every frame that was published and has not been taken back. */
  enumerate(visit: (address: number) => void): void {
    const { cursor } = this.#ring;
    for (let at = this.#home; at !== cursor; at = (at + 1) | 0) visit(this.#words[this.#ring.slotAt(at)]!);
  }

  #stage(i: number, address: number, length: number): void {
    if (this.#staged === 0) this.#clock.read();
    const words = this.#words;
    const { path, hash, rule, checksum, metadata } = this.#burst;
    const slot = this.#ring.slot(this.#staged++);
    const verified = (metadata & MetadataBit.CHECKSUM) === 0 ? 0 : checksum[i]!;
    words[slot + Entry.address] = address;
    words[slot + Entry.bytes] = length | (path[i]! << 16) | (verified << 18);
    words[slot + Entry.hash] = hash[i]!;
    words[slot + Entry.rule] = (metadata & MetadataBit.RULE) === 0 ? 0 : rule[i]!;
    words[slot + Entry.timestamp] = this.#clock.low;
    words[slot + Entry.timestamp + 1] = this.#clock.high;
    const timed = (metadata & MetadataBit.TIME) !== 0;
    words[slot + Entry.time] = timed ? this.#times[2 * i]! : 0;
    words[slot + Entry.time + 1] = timed ? this.#times[2 * i + 1]! : 0;
    this.#pool.setOwner(address, this.#owner);
  }

  #isFull(): boolean {
    if (this.#used() < this.#ring.entries) return false;
    this.#collect();
    return this.#used() >= this.#ring.entries;
  }

  #used(): number {
    return (this.#ring.cursor + this.#staged - this.#home) | 0;
  }

  /** Whether the pool of that frame has enough without it. Another worker's number may be a burst old. */
  #isLent(address: number): boolean {
    const worker = ((address >>> this.#shift) / this.#framesPerWorker) | 0;
    return this.#words[this.#freeAt[worker]!]! > this.#reserve;
  }

  #collect(): void {
    const ring = this.#ring;
    ring.pending(); // reloads the application's cursor
    const { consumed } = ring;
    if (consumed === this.#home) return;
    for (let at = this.#home; at !== consumed; at = (at + 1) | 0) {
      this.#pool.put(this.#words[ring.slotAt(at)]!);
    }
    this.#home = consumed;
    this.#words[this.#homeAt] = consumed;
  }
}

/** Where the application reads descriptors to: the arrays of a burst of its own. */
export interface DeliveryTable {
  readonly offset: Int32Array;
  readonly bytes: Int32Array;
  readonly hash: Int32Array;
  readonly path: Uint8Array;
  readonly rule: Int32Array;
  readonly checksum: Uint8Array;
  readonly timestamp: BigUint64Array;
  readonly time: BigUint64Array;
}

/** The application's end of a ring. Belongs to the thread that opened the port. */
export class DeliveryReceiver {
  readonly #words: Int32Array;
  readonly #ring: Consumer;
  readonly #frames: number;
  readonly #table: DeliveryTable;
  readonly #timestamps: Int32Array;
  readonly #times: Int32Array;

  constructor(memory: Memory, table: DeliveryTable, port: number, queue: number) {
    this.#words = memory.words;
    this.#ring = new Consumer(memory.words, deliveryPlace(memory, port, queue));
    this.#frames = memory.layout.frames;
    this.#table = table;
    this.#timestamps = new Int32Array(table.timestamp.buffer);
    this.#times = new Int32Array(table.time.buffer);
  }

  /**
   * Reads the oldest entries to the table from entry 0 on, `max` at most. Returns how many. Their frames stay as they are until
   * {@link release}.
   */
  read(max: number): number {
    const words = this.#words;
    const timestamps = this.#timestamps;
    const times = this.#times;
    const { offset, bytes, hash, path, rule, checksum } = this.#table;
    const count = this.#ring.peek(max);
    for (let i = 0; i < count; i++) {
      const slot = this.#ring.slot(i);
      const meta = words[slot + Entry.bytes]!;
      offset[i] = this.#frames + words[slot + Entry.address]!;
      bytes[i] = meta & 0xffff;
      path[i] = ((meta >>> 16) & 3) as PathId;
      checksum[i] = meta >>> 18;
      hash[i] = words[slot + Entry.hash]!;
      rule[i] = words[slot + Entry.rule]!;
      timestamps[2 * i] = words[slot + Entry.timestamp]!;
      timestamps[2 * i + 1] = words[slot + Entry.timestamp + 1]!;
      times[2 * i] = words[slot + Entry.time]!;
      times[2 * i + 1] = words[slot + Entry.time + 1]!;
    }
    return count;
  }

  /** Gives the frames of the `count` oldest entries back. */
  release(count: number): void {
    this.#ring.release(count);
  }
}
