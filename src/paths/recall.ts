/**
 * Takes descriptors back from a kernel that does not say how far it has read.
 *
 * In copy mode the kernel reads a transmit ring inside a kick, with a cursor of its own. Before Linux 6.17 it stores that
 * in the ring only once it has passed over all that it knows of (`xskq_cons_get_entries`, net/xdp/xsk_queue.h), and not
 * when a kick ends before: in EAGAIN after 32 packets, in EBUSY after one that the device dropped (commit
 * 1eb8b0dac189). Who trusts the stored one then sends packets twice, and writes into frames that are on their way.
 *
 * So the kernel is asked. Each descriptor that it may not have read gets an address that is in no frame: the kernel passes
 * over those and counts them (`tx_invalid_descs`). Up to Linux 6.5 it passes over all in one kick, later over one in each;
 * some later ones complete them too, with that address, which says that no frame comes home; and they do it only while
 * nothing else is under way, with EAGAIN until then. When it has passed over everything, the count says how many it had not
 * sent: the last so many of the ring. A device that is down takes no kick, but then it has completed all that it ever took,
 * and the completions say the same (`__dev_close_many` clears IFF_UP after ndo_stop; net/core/dev.c).
 *
 * The counts are of the whole life of the socket, and so is `recalled` in the path slot, of which a change says that the place
 * of what was left is written down. So a worker may die at any moment: the next one asks again, and gets the same answer.
 *
 * Belongs to the worker thread.
 */
import { Errno } from '../errors.ts';
import type { PathSlot } from '../memory/blocks.ts';
import type { Consumer, Producer } from '../memory/ring.ts';
import type { Memory } from '../memory/shared.ts';
import { NOWHERE, UPPER } from './transmit-recovery.ts';

/** What the kernel can be asked. */
export interface Asking {
  /** Has it read the ring. 0 or more, or a negative errno. */
  readonly kick: () => number;
  /** Descriptors that it has passed over, ever. Negative if it does not say. */
  readonly passedOver: () => number;
  /** Takes back what it has completed, where it needs room for more. */
  readonly complete: () => void;
}

/** How it ended: the kernel has passed over everything; the device is down; or packets are under way, and it is to be asked again. */
export type Answer = 'passed' | 'down' | 'busy';

/** Kicks in vain before it is asked again later. */
const FEW = 4;
/** And where there is no later: then what the device has not completed it will never send. */
const MANY = 1000;

export class Recall {
  readonly #words: Int32Array;
  readonly #tx: Producer;
  readonly #completion: Consumer;
  readonly #asking: Asking;
  readonly #recalledAt: number;
  readonly #endAt: number;
  readonly #countAt: number;
  readonly #stagedAt: number;
  readonly #completesAt: number;
  readonly #bouncedAt: number;

  constructor(memory: Memory, slot: PathSlot, tx: Producer, completion: Consumer, asking: Asking) {
    this.#words = memory.words;
    this.#tx = tx;
    this.#completion = completion;
    this.#asking = asking;
    this.#recalledAt = slot.at('recalled');
    this.#endAt = slot.at('recallEnd');
    this.#countAt = slot.at('recallCount');
    this.#stagedAt = slot.at('staged');
    this.#completesAt = slot.at('recallCompletes');
    this.#bouncedAt = slot.at('recallBounced');
  }

  /**
   * Another number whenever a packet has moved: of what the kernel is known to have read, and what it has completed, that
   * which it was to send.
   */
  get moved(): number {
    const counted = this.#completes ? 2 : 1;
    return (this.#tx.consumed + this.#completed - counted * this.#words[this.#recalledAt]!) | 0;
  }

  /** Whether a packet has bounced, and the kernel has not said yet which. */
  get bounced(): boolean {
    return this.#words[this.#bouncedAt] === 1;
  }

  set bounced(whether: boolean) {
    this.#words[this.#bouncedAt] = Number(whether);
  }

  /** Packets taken back that are not in the ring again, and nowhere else. */
  get left(): number {
    const count = this.#words[this.#countAt]!;
    return count === 0 ? 0 : Math.max(0, count - this.#repeated);
  }

  /** Cursor of the oldest of them; the others follow. */
  get first(): number {
    return (this.#words[this.#endAt]! - this.#words[this.#countAt]! + this.#repeated) | 0;
  }

  /** Whether nothing was published since they were taken back: what is staged then are the first of them. */
  get isLast(): boolean {
    return this.#words[this.#countAt] !== 0 && this.#words[this.#endAt] === this.#tx.cursor;
  }

  /**
   * Takes back what the kernel has not sent: it is `left` then, unless the answer is 'busy'. Not while packets are staged.
   *
   * @param last the device is left: it is known by the completions then, if not otherwise
   */
  take(last: boolean): Answer {
    const words = this.#words;
    const end = this.#tx.cursor;
    const answer = this.#passes(last ? MANY : FEW);
    if (answer === 'busy' && !last) return answer;
    const over = this.#asking.passedOver();
    this.#lookForCompleted();
    const counted = answer === 'passed' && over >= 0;
    const ever = counted ? over : end - this.#completed + (this.#completes ? Math.max(0, over) : 0);
    const count = (ever - words[this.#recalledAt]!) | 0;
    if (count <= 0) return answer;
    words[this.#countAt] = 0;
    words[this.#endAt] = end;
    words[this.#countAt] = count;
    words[this.#recalledAt] = ever | 0; // last: until then the next worker finds the same
    return answer;
  }

  /** Whether that entry of the completion ring, a word index, is of a descriptor that the kernel passed over. */
  isPassedOver(slot: number): boolean {
    if (this.#words[slot + UPPER] === 0) return false;
    this.#words[this.#completesAt] = 1;
    return true;
  }

  /** The oldest that is left went elsewhere. Only before any is in the ring again. */
  drop(): void {
    this.#words[this.#countAt]!--;
  }

  /** One more, whose descriptor is written in the slot before the oldest. Likewise. */
  prepend(): void {
    if (this.#words[this.#countAt] === 0) this.#words[this.#endAt] = this.#tx.cursor;
    this.#words[this.#countAt]!++;
  }

  /** All are in the ring again, and published. */
  done(): void {
    this.#words[this.#countAt] = 0;
  }

  /** Has the kernel pass over everything that is published, with so many kicks in vain. */
  #passes(patience: number): Answer {
    const tx = this.#tx;
    const words = this.#words;
    let pending = tx.pending();
    for (let i = 0; i < pending; i++) words[tx.pendingSlot(i) + UPPER] = NOWHERE;
    // One kick for each, and one in which the kernel says so.
    for (let kicks = pending + patience, vain = 0; pending > 0; kicks--) {
      if (kicks === 0 || vain === patience) return 'busy';
      const result = this.#asking.kick();
      if (result === Errno.EAGAIN) {
        this.#asking.complete();
        vain++;
      } else if (result < 0) return 'down';
      pending = tx.pending();
    }
    return 'passed';
  }

  /** Whether the kernel completes what it passes over. It does so at once: those of the first time are looked for. */
  get #completes(): boolean {
    return this.#words[this.#completesAt] === 1;
  }

  #lookForCompleted(): void {
    if (this.#completes) return;
    const completion = this.#completion;
    for (let i = completion.pending() - 1; i >= 0; i--) if (this.isPassedOver(completion.slot(i))) return;
  }

  /** What the kernel has completed, ever. */
  get #completed(): number {
    return (this.#completion.cursor + this.#completion.pending()) | 0;
  }

  /** What was taken back goes into the ring first thing afterwards, so that many are staged since. */
  get #repeated(): number {
    return Math.max(0, (this.#words[this.#stagedAt]! - this.#words[this.#endAt]!) | 0);
  }
}
