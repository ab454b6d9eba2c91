/**
 * The two sides of a path queue whose rings have AF_XDP's descriptors. Belongs to the worker thread.
 *
 * A worker may die between any two statements. Received packets stay in the ring until they are released, so none is lost.
 * Transmitted packets are staged in this order: their slots are written; the word `giving` gets the cursor behind them;
 * their frames get the path as owner, the oldest first; the word `staged` gets the same cursor. transmit-recovery.ts finds
 * the staged packets of a dead worker by these two words and the owners.
 */
import { FrameOwner, ownerTag } from '../memory/bit-fields.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { IN_PLACE_BURST, type QueueAddress, Ring, type RingId } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer, Producer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import { keepUnhandled } from '../memory/ring-recovery.ts';
import type { Memory } from '../memory/shared.ts';
import type { BurstArrays, Receiver } from './path.ts';

export class ReceiveRing implements Receiver {
  readonly ring: Consumer;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #ringOps: RingOperations;
  readonly #framesAt: number;
  #received = 0;

  /**
   * @param ring TX for a path that is its own other end
   * @param ringOps for tests: not the thread's
   */
  constructor(
    memory: Memory,
    address: QueueAddress,
    ring: RingId = Ring.RX,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    const { port, queue, path } = address;
    this.ring = new Consumer(memory.words, ringPlace(memory, address, ring));
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#ringOps = ringOps;
    this.#framesAt = memory.layout.frames;
  }

  ready(max: number): number {
    return this.ring.peek(max);
  }

  receive({ at }: BurstArrays, max: number): number {
    const { ring } = this;
    const count = ring.peek(max);
    if (count === 0) return 0;
    const bytes = this.#ringOps.receive(at, ring.slotsAt, ring.mask, ring.cursor, count, this.#framesAt);
    this.count(count, bytes);
    return count;
  }

  /** Counts what was received, which {@link release} gives back. */
  count(packets: number, bytes: number): void {
    this.#received = packets;
    if (packets === 0) return;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += bytes;
  }

  release(): void {
    if (this.#received > 0) this.ring.release(this.#received);
    this.#received = 0;
  }

  /** Frames in the `slots` that wait. */
  frames(slots: number): number {
    return slots;
  }

  eachFrame(words: Int32Array, visit: (address: number) => void): void {
    const { ring } = this;
    const slots = ring.pending();
    for (let i = 0; i < slots; i++) visit(words[ring.slot(i)]!);
  }

  /** After a worker's death. @param owner of the frames in the ring */
  recover(words: Int32Array, pool: FramePool, owner: number): void {
    keepUnhandled(words, this.ring, 4, pool, owner, this.ring.peek(IN_PLACE_BURST));
  }
}

export class TransmitRing {
  readonly ring: Producer;
  /** Slots written and not published: one for each packet. */
  staged = 0;
  /** Of these, packets that were posted before, and descriptors that only continue a packet. */
  protected repeated = 0;
  protected stagedBytes = 0;
  protected readonly words: Int32Array;
  protected readonly doubles: Float64Array;
  protected readonly counter: CounterIndex<PathCounter>;
  protected readonly pool: FramePool;
  protected readonly frames: number;
  /** Of the frames in the ring. */
  protected readonly owner: number;
  protected readonly stagedAt: number;
  protected readonly givingAt: number;
  readonly #ringOps: RingOperations;
  readonly #owners: number;
  readonly #frameShift: number;

  /** @param ringOps for tests: not the thread's */
  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    const { layout, words, doubles } = memory;
    const { port, queue, path } = address;
    this.ring = new Producer(words, ringPlace(memory, address, Ring.TX));
    this.words = words;
    this.doubles = doubles;
    this.counter = pathCounters(memory, port, queue, path);
    this.pool = pool;
    this.frames = layout.frames;
    this.owner = FrameOwner.TX | ownerTag(queue, port, path);
    this.stagedAt = memory.slot(address).at('staged');
    this.givingAt = memory.slot(address).at('giving');
    this.#ringOps = ringOps;
    this.#owners = layout.owners;
    this.#frameShift = 31 - Math.clz32(layout.geometry.frameSize);
  }

  /** Cursor of the slot that is staged next. */
  get end(): number {
    return (this.ring.cursor + this.staged) | 0;
  }

  room(wanted: number): number {
    return this.ring.reserve(wanted + this.staged) - this.staged;
  }

  push(offset: number, bytes: number): void {
    const words = this.words;
    const address = offset - this.frames;
    const slot = this.ring.slot(this.staged);
    words[slot] = address;
    words[slot + 1] = 0;
    words[slot + 2] = bytes;
    words[slot + 3] = 0;
    this.staged++;
    this.stagedBytes += bytes;
    const cursor = this.end;
    words[this.givingAt] = cursor;
    this.pool.setOwner(address, this.owner);
    words[this.stagedAt] = cursor;
  }

  pushBurst(burst: number, from: number, to: number, maxPacketBytes: number): number {
    const room = this.room(to - from);
    if (room <= 0) return 0;
    const { ring } = this;
    const packed = this.#ringOps.stage(
      burst,
      from,
      from + room,
      maxPacketBytes,
      ring.slotsAt,
      ring.mask,
      this.end,
      this.stagedAt << 2,
      this.frames,
      this.#owners,
      this.#frameShift,
      this.owner,
    );
    const count = packed & 0xff;
    this.staged += count;
    this.stagedBytes += packed >> 8;
    return count;
  }

  /** Stages `count` packets whose slots, from {@link end} on, are written: after a handler's in-place loop. */
  stage(count: number, bytes: number): void {
    if (count === 0) return;
    const { ring } = this;
    const stagedAt = this.stagedAt << 2;
    this.#ringOps.setOwners(
      ring.slotsAt,
      ring.mask,
      this.end,
      count,
      stagedAt,
      this.#owners,
      this.#frameShift,
      this.owner,
    );
    this.staged += count;
    this.stagedBytes += bytes;
  }

  /** Publishes the staged packets. Returns how many. */
  publish(): number {
    const count = this.staged;
    if (count === 0) return 0;
    this.ring.commit(count);
    this.doubles[this.counter.txPosted]! += count - this.repeated;
    this.doubles[this.counter.txBytes]! += this.stagedBytes;
    this.staged = 0;
    this.stagedBytes = 0;
    this.repeated = 0;
    return count;
  }
}
