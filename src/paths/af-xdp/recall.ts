/**
 * Takes descriptors back from a kernel that does not report how far it has read.
 *
 * In copy mode the kernel reads a transmit ring inside a kick, with a cursor of its own. Before Linux 6.17 it stores that
 * cursor in the ring only when it has passed over all descriptors that it knows of (`xskq_cons_get_entries`,
 * net/xdp/xsk_queue.h). It does not store it when a kick ends earlier: with EAGAIN after 32 packets, or with EBUSY after a
 * packet that the device dropped (commit 1eb8b0dac189). A sender that trusts the stored cursor sends packets twice, and
 * writes into frames that the device still reads.
 *
 * So each descriptor that the kernel may not have read gets an address outside all frames. The kernel passes over such a
 * descriptor and counts it (`tx_invalid_descs`). Up to Linux 6.5 it passes over all of them in one kick, later over one in
 * each. Some later kernels also complete them, with that address, which shows that the completion frees no frame. They do so
 * only while no packet is in transmission, and answer EAGAIN until then. When the kernel has passed over all descriptors, the
 * count is the number of unsent packets, and these are the last ones of the ring. A device that is down takes no kick, but
 * then the kernel has completed all packets that it ever read, and the number of completions gives the same result
 * (`__dev_close_many` clears IFF_UP after ndo_stop; net/core/dev.c).
 *
 * The counts cover the whole life of the socket. So does `recalled` in the path slot, which is written last, after the place
 * of the unsent packets. So a worker may die at any moment: the next one asks again and gets the same answer.
 *
 * Belongs to the worker thread.
 */
import { Errno } from '../../errors.ts';
import type { PathSlot } from '../../memory/blocks.ts';
import type { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';
import { NOWHERE, UPPER } from '../transmit-recovery.ts';

export interface RecallCalls {
  /** Has the kernel read the ring. 0 or more, or a negative errno. */
  readonly kick: () => number;
  /** Descriptors that the kernel ever passed over. Negative if it does not report them. */
  readonly passedOver: () => number;
  /** Takes completions from their ring, when the kernel needs room for more. */
  readonly complete: () => void;
}

/** The kernel has passed over everything; or the device is down; or packets are in transmission, and it must be asked again. */
export type RecallResult = 'passed' | 'down' | 'busy';

/** Kicks without progress before it is asked again later. */
const VAIN_KICKS = 4;
/** The same at the last attempt. Packets that the device has not completed by then are never sent. */
const LAST_VAIN_KICKS = 1000;

export class Recall {
  readonly #words: Int32Array;
  readonly #tx: Producer;
  readonly #completion: Consumer;
  readonly #calls: RecallCalls;
  readonly #recalledAt: number;
  readonly #endAt: number;
  readonly #countAt: number;
  readonly #stagedAt: number;
  readonly #completesAt: number;
  readonly #droppedAt: number;

  constructor(memory: Memory, slot: PathSlot, tx: Producer, completion: Consumer, calls: RecallCalls) {
    this.#words = memory.words;
    this.#tx = tx;
    this.#completion = completion;
    this.#calls = calls;
    this.#recalledAt = slot.at('recalled');
    this.#endAt = slot.at('recallEnd');
    this.#countAt = slot.at('recallCount');
    this.#stagedAt = slot.at('staged');
    this.#completesAt = slot.at('recallCompletes');
    this.#droppedAt = slot.at('recallBounced');
  }

  /**
   * Another number whenever a packet has moved: counts the packets that the kernel is known to have read, and those that it
   * has completed, without the descriptors that it passed over.
   */
  get progress(): number {
    const counted = this.#completes ? 2 : 1;
    return (this.#tx.consumed + this.#completed - counted * this.#words[this.#recalledAt]!) | 0;
  }

  /** Whether the device has dropped a packet, and the kernel has not yet reported which. */
  get hasDropped(): boolean {
    return this.#words[this.#droppedAt] === 1;
  }

  set hasDropped(whether: boolean) {
    this.#words[this.#droppedAt] = Number(whether);
  }

  /** Packets taken back that are not in the ring again. */
  get left(): number {
    const count = this.#words[this.#countAt]!;
    return count === 0 ? 0 : Math.max(0, count - this.#repeated);
  }

  /** Cursor of the oldest of them; the others follow. */
  get first(): number {
    return (this.#words[this.#endAt]! - this.#words[this.#countAt]! + this.#repeated) | 0;
  }

  /** Whether nothing was published since they were taken back: staged packets are then the first of them. */
  get isLast(): boolean {
    return this.#words[this.#countAt] !== 0 && this.#words[this.#endAt] === this.#tx.cursor;
  }

  /**
   * Takes back the packets that the kernel has not sent: they are {@link left} then, unless the result is 'busy'. Not while
   * packets are staged.
   *
   * @param last the path is left: if the kernel does not pass over everything, the completions decide
   */
  take(last: boolean): RecallResult {
    const words = this.#words;
    const end = this.#tx.cursor;
    const result = this.#passOver(last ? LAST_VAIN_KICKS : VAIN_KICKS);
    if (result === 'busy' && !last) return result;
    const over = this.#calls.passedOver();
    this.#lookForCompleted();
    const counted = result === 'passed' && over >= 0;
    const ever = counted ? over : end - this.#completed + (this.#completes ? Math.max(0, over) : 0);
    const count = (ever - words[this.#recalledAt]!) | 0;
    if (count <= 0) return result;
    words[this.#countAt] = 0;
    words[this.#endAt] = end;
    words[this.#countAt] = count;
    words[this.#recalledAt] = ever | 0; // last: until then the next worker gets the same result
    return result;
  }

  /** Whether that entry of the completion ring, a word index, is a descriptor that the kernel passed over. */
  isPassedOver(slot: number): boolean {
    if (this.#words[slot + UPPER] === 0) return false;
    this.#words[this.#completesAt] = 1;
    return true;
  }

  /** The oldest left packet went elsewhere. Only before any is in the ring again. */
  drop(): void {
    this.#words[this.#countAt]!--;
  }

  /** One more packet is left, whose descriptor is in the slot before the oldest. Likewise. */
  prepend(): void {
    if (this.#words[this.#countAt] === 0) this.#words[this.#endAt] = this.#tx.cursor;
    this.#words[this.#countAt]!++;
  }

  /** All are in the ring again, and published. */
  done(): void {
    this.#words[this.#countAt] = 0;
  }

  /** Has the kernel pass over everything that is published. */
  #passOver(maxVain: number): RecallResult {
    const tx = this.#tx;
    const words = this.#words;
    let pending = tx.pending();
    for (let i = 0; i < pending; i++) words[tx.pendingSlot(i) + UPPER] = NOWHERE;
    // One kick for each, and one in which the kernel stores its cursor.
    for (let kicks = pending + maxVain, vain = 0; pending > 0; kicks--) {
      if (kicks === 0 || vain === maxVain) return 'busy';
      const result = this.#calls.kick();
      if (result === Errno.EAGAIN) {
        this.#calls.complete();
        vain++;
      } else if (result < 0) return 'down';
      pending = tx.pending();
    }
    return 'passed';
  }

  /** Whether the kernel completes the descriptors that it passes over. It does so at once, from the first one on. */
  get #completes(): boolean {
    return this.#words[this.#completesAt] === 1;
  }

  #lookForCompleted(): void {
    if (this.#completes) return;
    const completion = this.#completion;
    for (let i = completion.pending() - 1; i >= 0; i--) if (this.isPassedOver(completion.slot(i))) return;
  }

  /** Descriptors that the kernel ever completed. */
  get #completed(): number {
    return (this.#completion.cursor + this.#completion.pending()) | 0;
  }

  /** Packets that are staged again. They are the first to be staged after they were taken back. */
  get #repeated(): number {
    return Math.max(0, (this.#words[this.#stagedAt]! - this.#words[this.#endAt]!) | 0);
  }
}
