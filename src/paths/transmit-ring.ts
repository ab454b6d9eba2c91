/**
 * The way out of a path queue whose ring holds descriptors of AF_XDP's shape: packets are staged, then published.
 *
 * A worker may die between any two statements. So packets are staged in this order: their slots are written; one word
 * says up to which slot that is; their frames are given to the path, the oldest first; the cursor of what is staged
 * moves behind them. Of the slots from that cursor to that word those are staged whose frames the path holds: no frame
 * is given to it but in this way, and those that are not given yet belong to whoever had them before. On a path that
 * is its own other end the path holds them all along, and all of them are staged: their slots are written.
 *
 * Belongs to the worker thread.
 */
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import { FrameOwner, ownerTag } from '../memory/frame-owner.ts';
import type { FramePool } from '../memory/frames.ts';
import { type QueueAddress, Ring } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Producer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';

/** Word of the upper half of an address in a descriptor, struct xdp_desc, and in an entry of the completion ring. */
export const UPPER = 1;
/** That half of an address beyond all memory: xp_validate_desc refuses the descriptor (net/xdp/xsk_queue.h). */
export const NOWHERE = 1 << 31;

export class TransmitRing {
  readonly ring: Producer;
  protected readonly words: Int32Array;
  protected readonly doubles: Float64Array;
  protected readonly counter: CounterIndex<PathCounter>;
  protected readonly pool: FramePool;
  readonly #ringOps: RingOperations;
  protected readonly frames: number;
  readonly #owners: number;
  readonly #frameShift: number;
  /** Of the frames in the ring. */
  protected readonly owner: number;
  readonly #stagedAt: number;
  readonly #givingAt: number;
  #staged = 0;
  #stagedBytes = 0;
  /** Of what is staged: packets that were posted before. */
  #repeated = 0;

  /** @param ringOps other than the thread's: for tests */
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
    this.#ringOps = ringOps;
    this.frames = layout.frames;
    this.#owners = layout.owners;
    this.#frameShift = 31 - Math.clz32(layout.geometry.frameSize);
    this.owner = FrameOwner.TX | ownerTag(queue, port, path);
    this.#stagedAt = memory.slot(address).at('staged');
    this.#givingAt = memory.slot(address).at('giving');
  }

  /** Packets pushed and not published. */
  get staged(): number {
    return this.#staged;
  }

  /** Cursor of the slot that is staged next. */
  get end(): number {
    return (this.ring.cursor + this.#staged) | 0;
  }

  /** How many of `wanted` packets can be pushed now. */
  room(wanted: number): number {
    return this.ring.reserve(wanted + this.#staged) - this.#staged;
  }

  /** Stages one packet; only after `room` said so. */
  push(offset: number, bytes: number): void {
    const words = this.words;
    const address = offset - this.frames;
    const slot = this.ring.slot(this.#staged);
    words[slot] = address;
    words[slot + 1] = 0;
    words[slot + 2] = bytes;
    words[slot + 3] = 0;
    this.#staged++;
    this.#stagedBytes += bytes;
    const cursor = this.end;
    words[this.#givingAt] = cursor;
    this.pool.setOwner(address, this.owner);
    words[this.#stagedAt] = cursor;
  }

  /**
   * Stages packets `from` … `to` of the burst that lies at `burst`: up to the first that is not to be sent, or is not
   * as long as a packet may be, or has no room. Returns how many.
   */
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
      this.#stagedAt << 2,
      this.frames,
      this.#owners,
      this.#frameShift,
      this.owner,
    );
    const count = packed & 0xff;
    this.#staged += count;
    this.#stagedBytes += packed >> 8;
    return count;
  }

  /** Stages `count` packets whose slots, from {@link end} on, are written. */
  stage(count: number, bytes: number): void {
    if (count === 0) return;
    const { ring } = this;
    this.#ringOps.setOwners(
      ring.slotsAt,
      ring.mask,
      this.end,
      count,
      this.#stagedAt << 2,
      this.#owners,
      this.#frameShift,
      this.owner,
    );
    this.#staged += count;
    this.#stagedBytes += bytes;
  }

  /** Stages once more what lies in that slot, a word index, and whose frame the path holds; only if there is room. */
  repeat(slot: number): void {
    const words = this.words;
    const to = this.ring.slot(this.#staged);
    words.copyWithin(to, slot, slot + 4);
    words[to + 1] = 0; // the address: see recall.ts
    this.#staged++;
    this.#repeated++;
    words[this.#stagedAt] = this.end;
  }

  /**
   * Gives what is published and not read an address that is in no frame: who reads it after all, a driver that was thought
   * to have stopped, passes over it.
   */
  spoil(): void {
    const { ring } = this;
    const pending = ring.pending();
    // NB: each a full barrier, lest the reader's cursor be looked at before they are seen.
    for (let i = 0; i < pending; i++) Atomics.store(this.words, ring.pendingSlot(i) + UPPER, NOWHERE);
  }

  /** Whether the slot that this cursor points at is {@link spoil}ed. */
  isSpoiled(cursor: number): boolean {
    return this.words[this.ring.slotAt(cursor) + UPPER] === NOWHERE;
  }

  /** Publishes what was pushed. Returns how many packets. */
  publish(): number {
    const count = this.#staged;
    if (count === 0) return 0;
    this.ring.commit(count);
    this.doubles[this.counter.txPosted]! += count - this.#repeated;
    this.doubles[this.counter.txBytes]! += this.#stagedBytes;
    this.#staged = 0;
    this.#stagedBytes = 0;
    this.#repeated = 0;
    return count;
  }

  /** Says that what is published is all there is staged: before a publication that is not this object's. */
  mark(cursor: number): void {
    this.words[this.#givingAt] = cursor | 0;
    this.words[this.#stagedAt] = cursor | 0;
  }

  /**
   * After a worker's death: publishes the packets it had staged, for they were decided. Returns how many.
   *
   * @param repeated whether they were all posted before
   */
  resume(repeated = false): number {
    const words = this.words;
    const { ring } = this;
    let staged = (words[this.#stagedAt]! - ring.cursor) | 0;
    if (staged < 0 || staged > ring.entries) staged = 0;
    const given = (words[this.#givingAt]! - ring.cursor) | 0;
    if (given <= ring.entries) while (staged < given && this.#isGiven(ring.slot(staged))) staged++;
    this.mark(ring.cursor + staged);
    if (staged > 0) {
      ring.commit(staged);
      if (!repeated) this.doubles[this.counter.txPosted]! += staged;
    }
    return staged;
  }

  #isGiven(slot: number): boolean {
    return this.pool.ownerOf(this.words[slot]!) === this.owner;
  }
}
