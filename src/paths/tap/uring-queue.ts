/**
 * A tap queue driven through io_uring. Worker only.
 *
 * ```
 *   transmit    submission entries: a write for each packet, then reads, as many as packets may be there
 *   receive     completions of the reads, a frame each
 *   complete    completions of the writes, in the same ring
 * ```
 *
 * One io_uring_enter per burst submits the writes of the last burst and the reads for the next; both are done when it
 * returns. So a frame stays in the pool until it is read into. A burst of one packet is written without the ring
 * ({@link DirectTap}). uring-reads.ts decides about reads.
 *
 * When a worker dies, another thread cannot use its ring: its successor reads it out, see orphaned-uring.ts. Completions of
 * writes are released before their frames can be used again, so that each entry that remains is true.
 */
import { Errno } from '../../errors.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { PathLedger } from '../../memory/frame-owners.ts';
import type { FramePool } from '../../memory/frames.ts';
import { BURST, type PathId, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { AttachedPath, AttachedTransmitter } from '../attached-path.ts';
import type { BurstArrays, Receiver } from '../path.ts';
import { SegmentSender } from '../segments.ts';
import { Stall } from '../stall.ts';
import { DirectTap } from './direct.ts';
import { ReadPairs } from './read-pairs.ts';
import { TapFrames } from './tap-frames.ts';
import { isBenign, Kind, UringRing } from './uring.ts';
import { UringReads } from './uring-reads.ts';
import { eachCompletion, eachUnsent, reclaimUnsent } from './uring-walk.ts';

export class UringQueue implements AttachedPath, Receiver, AttachedTransmitter {
  readonly rx: Receiver = this;
  readonly tx: AttachedTransmitter = this;
  readonly path: PathId;
  readonly tag: number;
  /** The tap itself: poll(2) on it reports packets at once, also between two reads. */
  readonly fd: number;
  backlog = false;

  readonly #ring: UringRing;
  readonly #direct: DirectTap;
  readonly #frames: TapFrames;
  readonly #reads: UringReads;
  readonly #words: Int32Array;
  readonly #pool: FramePool;
  readonly #stagedAt: number;
  readonly #segments: SegmentSender | undefined;
  readonly #stall: Stall;
  /** Writes published, and completed. */
  #writes = 0;
  #completed = 0;
  #staged = 0;
  #stagedBytes = 0;

  private constructor(shim: Shim, ring: UringRing, memory: Memory, pool: FramePool, address: QueueAddress) {
    const slot = memory.slot(address);
    const frames = new TapFrames(memory, pool, address);
    const pairs = new ReadPairs(memory, address);
    pairs.begin();
    this.path = address.path;
    this.tag = frames.tag;
    this.fd = slot.fd;
    this.#ring = ring;
    this.#direct = new DirectTap(shim, memory, frames, pairs, address);
    this.#frames = frames;
    this.#reads = new UringReads(ring, this.#direct, memory, frames, pairs, address);
    this.#words = memory.words;
    this.#pool = pool;
    this.#stagedAt = slot.at('staged');
    this.#segments = SegmentSender.of(shim, memory, address);
    this.#stall = new Stall(shim.millis);
  }

  /** Opens a ring for the calling thread; the negative errno if the kernel refuses io_uring. */
  static open(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue | number {
    const ring = UringRing.open(shim, memory, address);
    if (typeof ring === 'number') return ring;
    const opened = new UringQueue(shim, ring, memory, pool, address);
    opened.flush();
    return opened;
  }

  /**
   * The reads of a batch were submitted at the end of the last round, and packets may have come since. So `anew` reads once
   * more, unless the kernel will report packets.
   */
  ready(max: number, anew = false): number {
    const ready = this.#known(max);
    if (ready > 0 || !anew || (this.#reads.isPolling && !this.backlog)) return ready;
    return this.#reads.readOneMore();
  }

  /** Packets of the last batch of reads, or of a new one. */
  #known(max: number): number {
    if (this.#direct.held > 0) return 1;
    this.#reap();
    const reads = this.#reads;
    const { cq, calls } = this.#ring;
    const pending = cq.peek(max);
    if (pending > 0) return pending;
    if (!calls) {
      if (reads.readsSingly && !this.backlog) return reads.readOne();
      if (!reads.expectsPackets) return 0;
    }
    this.#publish();
    reads.submit();
    if (!calls && reads.outstanding === 0 && !this.backlog) return 0; // no frame is free
    this.#enter();
    this.#reap();
    return cq.peek(max);
  }

  receive({ offset, bytes }: BurstArrays, max: number): number {
    return this.#reads.receive(offset, bytes, max);
  }

  release(): void {
    this.#reads.release();
  }

  /** One entry is reserved for the poll. */
  room(wanted: number): number {
    return this.#ring.sq.reserve(wanted + this.#staged + 1) - this.#staged - 1;
  }

  /** A worker may die at any point of this: `staged` in the path slot and the entry's kind tell how far it got. */
  push(offset: number, bytes: number): void {
    const address = offset - this.#frames.at;
    const entry = this.#ring.write(this.#staged, offset, bytes, address);
    this.#frames.send(address);
    this.#staged++;
    this.#words[this.#stagedAt] = (this.#ring.sq.cursor + this.#staged) | 0;
    this.#ring.settle(entry);
    this.#stagedBytes += bytes;
  }

  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    if (this.#staged > 0 || this.backlog) this.flush(); // writes to a tap are done when they are submitted
    return !this.backlog && this.#segments.send(offset, bytes, offload);
  }

  flush(): number {
    const reads = this.#reads;
    if (this.#staged === 1 && !this.backlog && !reads.expectsPackets) this.#writeDirectly();
    else this.#publish();
    if (reads.poll()) this.backlog = true;
    if (!this.backlog) return 0;
    if (reads.expectsPackets) reads.submit();
    return this.#enter();
  }

  complete(): void {
    this.#reap();
  }

  /** Nothing to do: frames stay in the pool until they are read into. */
  refill(): void {}

  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.#publish();
    const packets = reclaimUnsent(this.#ring, this.#frames, visit);
    this.#completed += packets;
    return packets;
  }

  ledger(): PathLedger {
    const waiting = { rx: 0, completing: 0 };
    eachCompletion(this.#ring, this.#frames, this.#reads.scanned, (kind) => {
      waiting[kind]++;
    });
    const single = this.#direct.frame < 0 ? 0 : 1;
    const held = this.#direct.held > 0 ? 1 : 0;
    return {
      fill: this.#reads.outstanding - waiting.rx + single - held,
      rx: waiting.rx + held,
      tx: this.#writes + this.#staged - this.#completed - waiting.completing,
      completing: waiting.completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    const mask = -this.#pool.frameSize;
    const ring = this.#ring;
    eachCompletion(ring, this.#frames, this.#reads.scanned, (_, address) => visit(address & mask));
    eachUnsent(ring, this.#frames, (_, address) => visit(address & mask));
    for (let i = 0; i < this.#staged; i++) visit(ring.addressAt(ring.sq.slot(i)) & mask);
    if (this.#direct.frame >= 0) visit(this.#direct.frame);
  }

  detach(): void {
    this.#ring.close();
  }

  #publish(): void {
    if (this.#staged === 0) return;
    this.#ring.sq.commit(this.#staged);
    this.#frames.posted(this.#staged, this.#stagedBytes);
    this.#writes += this.#staged;
    this.#staged = 0;
    this.#stagedBytes = 0;
    this.backlog = true;
  }

  /** Sends the one staged packet after all that were published before: a write is done when it is submitted. */
  #writeDirectly(): void {
    const { sq } = this.#ring;
    const address = this.#ring.addressAt(sq.slot(0));
    const result = this.#direct.write(address, this.#stagedBytes);
    this.#frames.sent(address, result);
    this.#frames.posted(1, this.#stagedBytes);
    this.#staged = 0;
    this.#stagedBytes = 0;
    this.#words[this.#stagedAt] = sq.cursor;
    this.#direct.written(); // last: until nothing is staged, the result concerns the staged entry
  }

  #enter(): number {
    const { sq } = this.#ring;
    this.#frames.kicked();
    const result = this.#ring.enter(sq.pending());
    this.backlog = sq.pending() > 0;
    if (!this.backlog) this.#stall.clear();
    else if (this.#stall.hasFailed(sq.consumed)) return this.#fail(result < 0 ? result : Errno.ETIMEDOUT);
    return isBenign(result) ? 0 : this.#fail(result);
  }

  #fail(result: number): number {
    this.#frames.kickFailed();
    return result;
  }

  /** Takes the oldest completions, up to the first that brings a packet. */
  #reap(): void {
    const { cq } = this.#ring;
    for (;;) {
      const count = cq.peek(BURST);
      let done = 0;
      while (done < count && this.#take(cq.slot(done))) done++;
      if (done > 0) cq.release(done);
      if (done < count || count === 0) return;
    }
  }

  /** False if it brings a packet, for {@link receive}. */
  #take(slot: number): boolean {
    const ring = this.#ring;
    switch (ring.doneKind(slot)) {
      case Kind.WRITE:
        this.#frames.sent(ring.doneAddress(slot), ring.doneResult(slot));
        this.#completed++;
        return true;
      case Kind.READ:
        return this.#reads.completed(slot);
      case Kind.POLL:
        this.#reads.polled();
        return true;
      default:
        return true;
    }
  }
}
