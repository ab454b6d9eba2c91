/**
 * A transmit ring in copy mode before Linux 6.17, where the kernel does not report how far it has read: recall.ts takes the
 * unsent packets back, and this puts them into the ring again. Belongs to the worker thread.
 */

import { FrameOwner, ownerTag } from '../../memory/bit-fields.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool } from '../../memory/frames.ts';
import { BURST, type QueueAddress } from '../../memory/layout.ts';
import type { Consumer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';
import type { Drops } from '../stall.ts';
import type { ReclaimableRing } from '../transmit-recovery.ts';
import { Recall, type RecallCalls, type RecallResult } from './recall.ts';

/**
 * Packets that may wait in the ring. A small number bounds those of which it is unknown whether the kernel has read them. A
 * worker wants room for a burst, and the kernel reads half a burst in a kick.
 */
const MAX_WAITING = 2 * BURST;

export class RecallRing {
  readonly #tx: ReclaimableRing;
  readonly #recall: Recall;
  readonly #drops: Drops | undefined;
  readonly #pool: FramePool;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #frames: number;
  readonly #owner: number;
  readonly #consumedAt: number;
  /** Copies of packets of which the device has dropped one, by slot. */
  readonly #copies = new Map<number, Uint8Array>();
  /** Whether the kernel has read everything before the first unsent packet, and nothing after. */
  isExact = true;
  #isBusy = false;

  /** @param drops decides about dropped packets; absent: they are sent again */
  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    slot: PathSlot,
    tx: ReclaimableRing,
    completion: Consumer,
    calls: RecallCalls,
    drops: Drops | undefined,
  ) {
    const { port, queue, path } = address;
    this.#tx = tx;
    this.#recall = new Recall(memory, slot, tx.ring, completion, calls);
    this.#drops = drops;
    this.#pool = pool;
    this.#bytes = memory.bytes;
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#frames = memory.layout.frames;
    this.#owner = FrameOwner.TX | ownerTag(queue, port, path);
    this.#consumedAt = slot.at('consumed');
  }

  /** How many of `wanted` packets may wait in addition. */
  room(wanted: number): number {
    if (this.isPending) return 0;
    const waiting = this.#tx.ring.pending() + this.#tx.staged;
    return Math.max(0, Math.min(wanted, MAX_WAITING - waiting));
  }

  /** The kernel was asked and has not answered yet. It gets nothing until it has. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Packets that were taken back and are not in the ring again. */
  get left(): number {
    return this.#recall.left;
  }

  /** Cursor of the oldest of them. */
  get first(): number {
    return this.#recall.first;
  }

  /** The oldest of them went elsewhere. */
  drop(): void {
    this.#recall.drop();
  }

  /** Whether {@link settle} must run before the next kick. */
  get isPending(): boolean {
    return this.#isBusy || this.left > 0;
  }

  /** Another number whenever a packet has moved. */
  get progress(): number {
    return this.#recall.progress;
  }

  /** Whether that entry of the completion ring, a word index, frees no frame. */
  isPassedOver(slot: number): boolean {
    return this.#recall.isPassedOver(slot);
  }

  /**
   * Takes back the unsent packets and puts them into the ring again. Then the ring holds exactly those.
   *
   * @returns false if the device has failed
   */
  settle(): boolean {
    this.#tx.publish();
    if (this.#recall.hasDropped) return this.#retryDropped();
    if (this.#ask() === 'passed') {
      this.#drops?.shift(this.left);
      this.repeat();
    }
    return true;
  }

  /** Takes back the unsent packets for good: the path is left. */
  reclaim(): void {
    if (this.#recall.hasDropped) this.#retryDropped(true);
    else this.#ask(true);
  }

  /** Puts the packets that were taken back into the ring again. */
  repeat(): void {
    const tx = this.#tx;
    while (this.left > 0) tx.repeat(tx.ring.slotAt(this.first));
    tx.publish();
    this.#recall.done();
    this.isExact = true;
  }

  /**
   * A kick ended in EBUSY: the device dropped the last packet that the kernel read. Which one that was is unknown until the
   * kernel has answered, and by then its frame may have been freed. So all candidates are copied first. If the worker dies
   * in between, the dropped packet is lost.
   *
   * @param before the kernel's cursor before that kick
   * @returns false if the device has failed
   */
  retryDropped(before: number): boolean {
    const { ring } = this.#tx;
    this.#recall.hasDropped = true;
    this.#copies.clear();
    for (let cursor = before; cursor !== ring.cursor; cursor = (cursor + 1) | 0) {
      const slot = ring.slotAt(cursor);
      const offset = this.#frames + this.#words[slot]!;
      this.#copies.set(slot, this.#bytes.slice(offset, offset + this.#words[slot + 2]!));
    }
    return this.#retryDropped();
  }

  /** Goes on after a worker's death. */
  recover(): void {
    const recall = this.#recall;
    if (recall.hasDropped) this.#doubles[this.#counter.txErrors]!++; // that worker had the copy
    recall.hasDropped = false;
    const { isLast } = recall;
    if (isLast) this.#ask(); // that worker may have died before it wrote down the result
    // Staged packets are the first of those taken back. They were posted before.
    this.#tx.resume(isLast);
    if (!isLast) this.#ask();
  }

  /** Puts the packets that the kernel has not read into the ring again, and before them the one that the device dropped. */
  #retryDropped(last = false): boolean {
    const words = this.#words;
    const pool = this.#pool;
    const { ring } = this.#tx;
    const recall = this.#recall;
    const result = this.#ask(last);
    if (this.#isBusy) return true;
    recall.hasDropped = false;
    const passed = result === 'passed';
    const end = ring.cursor;
    const dropped = ((recall.left > 0 ? recall.first : end) - 1) | 0;
    // If the device is down, or the path is left, the dropped packet is the first of those taken back.
    const decision = passed ? (this.#drops?.decide(dropped, end) ?? 'retry') : 'retry';
    const slot = ring.slotAt(dropped);
    const packet = this.#copies.get(slot);
    if (decision === 'lost' || packet === undefined || pool.count === 0) {
      this.#doubles[this.#counter.txErrors]!++;
    } else {
      const home = pool.peek(0) + (words[slot]! & (pool.frameSize - 1));
      this.#bytes.set(packet, this.#frames + home);
      this.#tx.moved(slot, home);
      recall.prepend();
      pool.setOwner(home, this.#owner);
      pool.remove(1);
      this.#doubles[this.#counter.txRetried]!++;
      this.#doubles[this.#counter.txPosted]!++;
    }
    this.#copies.clear();
    if (passed) this.repeat();
    return decision !== 'failed';
  }

  /** @param last the path is left: see recall.ts */
  #ask(last = false): RecallResult {
    const result = this.#recall.take(last);
    this.#isBusy = result === 'busy' && !last;
    // All before is read, or taken back.
    if (!this.#isBusy) this.#words[this.#consumedAt] = this.#tx.ring.cursor;
    return result;
  }
}
