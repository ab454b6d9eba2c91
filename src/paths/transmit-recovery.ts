/**
 * The packets of a transmit ring when its worker leaves the path, or goes on after a dead one. Belongs to the worker thread.
 *
 * Of a dead worker's slots between the words `staged` and `giving`, those are staged whose frames the path owns: a frame
 * becomes the path's in no other way, and a frame that is not the path's yet still has its former owner. On a path that is
 * its own other end, the path owns the frames all along, so all of these are staged: their slots are written.
 */
import type { FramePool } from '../memory/frames.ts';
import { type QueueAddress, Ring } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { TransmitRing } from './descriptor-rings.ts';

/** Word of the upper half of an address in a descriptor, struct xdp_desc, and in an entry of the completion ring. */
export const UPPER = 1;
/** That half of an address beyond all memory: xp_validate_desc refuses the descriptor (net/xdp/xsk_queue.h). */
export const NOWHERE = 1 << 31;

/** A transmit ring whose staged packets a worker's successor publishes. */
export class ResumableRing extends TransmitRing {
  /** Before a publication that is not {@link publish}: no packet is staged behind this cursor. */
  mark(cursor: number): void {
    this.words[this.givingAt] = cursor | 0;
    this.words[this.stagedAt] = cursor | 0;
  }

  /**
   * After a worker's death: publishes the packets it had staged, because they were decided. Returns how many.
   *
   * @param repeated whether they were all posted before
   */
  resume(repeated = false): number {
    const words = this.words;
    const { ring } = this;
    let staged = (words[this.stagedAt]! - ring.cursor) | 0;
    if (staged < 0 || staged > ring.entries) staged = 0;
    const given = (words[this.givingAt]! - ring.cursor) | 0;
    if (given <= ring.entries) while (staged < given && this.isHeld(ring.slot(staged))) staged++;
    this.mark(ring.cursor + staged);
    if (staged > 0) {
      const packets = this.packetsBefore(ring.cursor + staged, staged);
      ring.commit(staged);
      if (!repeated) this.doubles[this.counter.txPosted]! += packets;
    }
    return staged;
  }

  // A packet takes one slot, and more of them only in af-xdp/chain-transmit.ts. Slots are named by their word index.

  /** How many packets end in these slots before a cursor. */
  protected packetsBefore(_cursor: number, slots: number): number {
    return slots;
  }

  protected endsPacket(_slot: number): boolean {
    return true;
  }

  /** Address and bytes of the packet that ends in that slot. */
  protected packetAt(slot: number): number {
    return this.words[slot]!;
  }

  protected lengthAt(slot: number): number {
    return this.words[slot + 2]!;
  }

  /** Slots of such a packet. */
  protected slotsFor(_address: number, _bytes: number): number {
    return 1;
  }

  /** Cursor behind the packet that has the slot at this cursor. */
  protected packetEnd(cursor: number): number {
    return (cursor + 1) | 0;
  }

  /** Writes a packet's slots, from the one at this cursor on. */
  protected write(cursor: number, address: number, bytes: number): void {
    const words = this.words;
    const slot = this.ring.slotAt(cursor);
    words[slot] = address;
    words[slot + 1] = 0;
    words[slot + 2] = bytes;
    words[slot + 3] = 0;
  }

  /** Whether the path owns the frame in that slot, a word index. */
  protected isHeld(slot: number): boolean {
    return this.pool.ownerOf(this.words[slot]!) === this.owner;
  }
}

/** A transmit ring whose unsent packets can be taken back, and whose sent frames come home by a completion ring. */
export class ReclaimableRing extends ResumableRing {
  /** Whether published packets wait for the reader. */
  backlog = false;
  protected readonly completion: Consumer;
  /** Index of the word before whose cursor all slots are consumed, if the reader has not said so yet. */
  protected readonly consumedAt: number;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    super(memory, pool, address, ringOps);
    this.completion = new Consumer(memory.words, ringPlace(memory, address, Ring.COMPLETION));
    this.consumedAt = memory.slot(address).at('consumed');
  }

  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.publish(); // another port may have forwarded packets since the last flush
    const count = this.unsent();
    const packets = this.packetsBefore(this.firstUnsent + count, count);
    for (let i = 0; i < count; i++) {
      const slot = this.ring.slotAt(this.firstUnsent);
      if (this.endsPacket(slot)) visit(this.frames + this.packetAt(slot), this.lengthAt(slot));
      this.passOver(); // so that the successor of a worker that dies here does not take it back again
    }
    this.doubles[this.counter.txRescued]! += packets;
    this.backlog = false;
    return packets;
  }

  /**
   * After a worker's death: publishes the packets it had staged, and passes over ring entries whose frames are no longer
   * this path's, because that worker had taken them back or freed them.
   */
  recover(): void {
    this.passOverCompleted();
    this.resume();
    this.passOverSent();
    this.backlog = this.unsent() > 0;
  }

  protected passOverCompleted(): void {
    while (this.completion.peek(1) === 1 && !this.isHeld(this.completion.slot(0))) this.completion.release(1);
  }

  protected passOverSent(): void {
    while (this.unsent() > 0 && !this.isHeld(this.ring.slotAt(this.firstUnsent))) this.passOver();
  }

  /** Published slots that the reader has not taken; where it does not say so, no fewer. */
  protected unsent(): number {
    const pending = this.ring.pending();
    const ahead = (this.words[this.consumedAt]! - this.ring.consumed) | 0;
    return ahead > 0 ? pending - ahead : pending;
  }

  /** Cursor of the oldest of them, as of the last {@link unsent}. */
  protected get firstUnsent(): number {
    const told = this.words[this.consumedAt]!;
    return ((told - this.ring.consumed) | 0) > 0 ? told : this.ring.consumed;
  }

  /** That slot is not this path's any more. */
  protected passOver(): void {
    this.words[this.consumedAt] = (this.firstUnsent + 1) | 0;
  }

  /** Packets pushed and not completed. */
  get inFlight(): number {
    return (this.end - this.completion.cursor) | 0;
  }

  /** Entries of the completion ring whose frames come home. */
  get completing(): number {
    return this.completion.pending();
  }

  eachCompleted(visit: (address: number) => void): void {
    const count = this.completion.pending();
    for (let i = 0; i < count; i++) visit(this.words[this.completion.slot(i)]!);
  }

  eachUnsent(visit: (address: number) => void): void {
    const count = this.unsent();
    for (let i = 0; i < count; i++) {
      const slot = this.ring.slotAt(this.firstUnsent + i);
      if (this.endsPacket(slot)) visit(this.words[slot]!);
    }
  }

  /** The packet of one descriptor in that slot, a word index, is at this address now, in another frame. */
  moved(slot: number, address: number): void {
    this.words[slot] = address;
  }

  /** Stages the packet in that slot, a word index, once more; the path owns its frame. Only if there is room. */
  repeat(slot: number): void {
    const words = this.words;
    const to = this.ring.slot(this.staged);
    words.copyWithin(to, slot, slot + 4);
    words[to + UPPER] = 0; // af-xdp/recall.ts writes it
    this.staged++;
    this.repeated++;
    words[this.stagedAt] = this.end;
  }

  /**
   * Gives published and unread descriptors an address that is in no frame: a driver that reads them after all, although it
   * seemed to have stopped, passes over them.
   */
  protected invalidateUnread(): void {
    const { ring } = this;
    const pending = ring.pending();
    // NB: each store is a full barrier, so that the reader's cursor is read after all are visible.
    for (let i = 0; i < pending; i++) Atomics.store(this.words, ring.pendingSlot(i) + UPPER, NOWHERE);
  }

  /** Whether {@link invalidateUnread} has written the descriptor at this cursor. */
  protected isInvalid(cursor: number): boolean {
    return this.words[this.ring.slotAt(cursor) + UPPER] === NOWHERE;
  }
}
