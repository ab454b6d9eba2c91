/**
 * A tap queue driven through io_uring. Worker only.
 *
 * ```
 *   transmit    submission entries: a write for each packet, then reads, as many as packets may be there
 *   receive     completions of the reads, a frame each
 *   complete    completions of the writes, in the same ring
 * ```
 *
 * One io_uring_enter per burst submits the last burst's writes and the next one's reads; both are done when it
 * returns, the reads without a packet with EAGAIN. So frames wait for packets on the pool's own stack. When a read
 * finds nothing the queue asks to be told (IORING_OP_POLL_ADD), and reads no more until the kernel raises a flag in
 * shared memory: an idle queue makes no system call, and while packets flow nobody is told of each.
 *
 * When a worker dies its ring is of no use to another thread. Its successor reads what the dead one left in the
 * completion ring, takes back what was not submitted, closes it, and opens a ring of its own: see
 * datapath/takeover.ts. Completions of writes are released before their frames can be used again, so that each
 * entry there still tells the truth.
 */
import { Errno } from '../../errors.ts';
import type { Shim } from '../../kernel/shim.ts';
import { type CounterIndex, pathCounters } from '../../memory/counters.ts';
import type { FramePool, PathLedger } from '../../memory/frames.ts';
import { Holder, holderTag } from '../../memory/holder.ts';
import { BURST, HEADROOM, type PathCounter, type PathId, PathSlot } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { roomOf } from '../frame-room.ts';
import type { PathQueue, QueueAddress } from '../path.ts';
import { SegmentSender } from '../segments.ts';
import { isBenign, Kind, UringRing } from './uring.ts';

/** Reads asked for when hardly anything came last time: one that finds nothing costs a quarter of one that does. */
const FEWEST_READS = 4;

export class UringQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  /** The tap itself: poll(2) sees at once what is there, also between two looks at the ring. */
  readonly fd: number;
  backlog = false;

  readonly #ring: UringRing;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  readonly #room: number;
  readonly #orphan: boolean;
  readonly #stagedAt: number;
  readonly #segments: SegmentSender | undefined;
  /** Completions looked at by the last receive, given back by release: reads that brought a packet, all of them. */
  #scanned = 0;
  #writes = 0;
  #completed = 0;
  #staged = 0;
  #stagedBytes = 0;
  /** Reads submitted whose completions have not been looked at, and how many of the same lot have brought packets. */
  #asked = 0;
  #brought = 0;
  #nextReads = FEWEST_READS;
  /** Whether there may be packets, as far as is known. */
  #hungry = false;
  /** Whether the kernel will tell of packets. */
  #armed = false;
  /** Whether a read has found nothing since it was asked to tell: then what it tells is old. */
  #dry = false;

  private constructor(
    shim: Shim,
    ring: UringRing,
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    orphan: boolean,
  ) {
    const { port, queue, path } = address;
    const { layout, words, doubles } = memory;
    const slot = layout.slot(port, queue, path);
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.fd = words[(slot + PathSlot.fd) >> 2]!;
    this.#ring = ring;
    this.#words = words;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#room = roomOf(layout.geometry.frameSize);
    this.#orphan = orphan;
    this.#stagedAt = (slot + PathSlot.staged) >> 2;
    this.#segments = SegmentSender.of(shim, memory, address);
  }

  /** Opens a ring for the calling thread; the negative errno where the kernel refuses io_uring. */
  static open(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue | number {
    const ring = UringRing.open(shim, memory, address);
    if (typeof ring === 'number') return ring;
    const opened = new UringQueue(shim, ring, memory, pool, address, false);
    opened.flush();
    return opened;
  }

  /** The ring a dead worker left behind: to be read out, not to be submitted to. */
  static adopt(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue {
    const ring = new UringRing(shim, memory, address);
    const left = new UringQueue(shim, ring, memory, pool, address, true);
    left.#resume();
    return left;
  }

  ready(max: number): number {
    this.#reap();
    const { cq } = this.#ring;
    const pending = cq.peek(max);
    if (pending > 0 || this.#orphan) return pending;
    const { calls } = this.#ring;
    if (!calls && !this.#hungry) return 0;
    this.#publish();
    this.#ask();
    if (!calls && this.#asked === 0 && !this.backlog) return 0; // no frame is free
    this.#enter();
    this.#reap();
    return cq.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    const words = this.#words;
    const { cq } = this.#ring;
    const count = cq.peek(max);
    let packets = 0;
    let total = 0;
    let scanned = 0;
    for (; scanned < count; scanned++) {
      const slot = cq.slot(scanned);
      const length = words[slot + 2]!;
      if (words[slot + 1] !== Kind.READ || length <= 0 || length >= this.#room) break;
      const address = words[slot]!;
      if (this.#orphan && !this.#isOurs(Kind.READ, address)) continue;
      offset[packets] = this.#frames + address + HEADROOM;
      bytes[packets] = length;
      packets++;
      total += length;
    }
    if (packets > 0) {
      this.#doubles[this.#counter.rxPackets]! += packets;
      this.#doubles[this.#counter.rxBytes]! += total;
    }
    this.#asked -= scanned;
    this.#brought += scanned;
    this.#scanned = scanned;
    return packets;
  }

  release(): void {
    if (this.#scanned > 0) this.#ring.cq.release(this.#scanned);
    this.#scanned = 0;
  }

  /** One entry is kept for the question whether there are packets. */
  room(wanted: number): number {
    return this.#ring.sq.reserve(wanted + this.#staged + 1) - this.#staged - 1;
  }

  /** A worker that dies takes nothing along: the mark says what is staged, and an entry that it is about to be. */
  push(offset: number, bytes: number): void {
    const address = offset - this.#frames;
    const entry = this.#ring.write(this.#staged, offset, bytes, address);
    this.#pool.give(address, Holder.TX | this.tag);
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
    this.#publish();
    if (!this.#armed && !this.#hungry && this.#ring.sq.reserve(1) === 1) {
      this.#ring.poll(0);
      this.#ring.sq.commit(1);
      this.#armed = true;
      this.#dry = false;
      this.backlog = true;
    }
    if (!this.backlog) return 0;
    if (this.#hungry) this.#ask();
    return this.#enter();
  }

  complete(): void {
    this.#reap();
  }

  /** Nothing to do: frames wait on the stack. */
  refill(): void {}

  inFlight(): number {
    return this.#writes + this.#staged - this.#completed;
  }

  takeBack(visit: (offset: number, bytes: number) => void): number {
    this.#publish();
    const ring = this.#ring;
    const count = ring.sq.pending();
    let packets = 0;
    for (let i = 0; i < count; i++) {
      const slot = ring.sq.pendingSlot(i);
      const address = ring.addressAt(slot);
      if (ring.kindAt(slot) !== Kind.WRITE) continue;
      if (this.#isOurs(Kind.WRITE, address)) {
        visit(this.#frames + address, ring.bytesAt(slot));
        packets++;
      }
      ring.cancel(slot); // what has arrived is still to be read, by entries behind this one
    }
    this.#doubles[this.#counter.txRescued]! += packets;
    this.#completed += packets;
    return packets;
  }

  ledger(): PathLedger {
    const waiting = { rx: 0, completing: 0 };
    this.#eachCompletion((kind) => waiting[kind]++);
    return {
      fill: this.#asked - waiting.rx,
      rx: waiting.rx,
      tx: this.inFlight() - waiting.completing,
      completing: waiting.completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    const mask = -this.#pool.frameSize;
    this.#eachCompletion((_, address) => visit(address & mask));
    const ring = this.#ring;
    const unsent = ring.sq.pending();
    for (let i = 0; i < unsent; i++) {
      const slot = ring.sq.pendingSlot(i);
      const address = ring.addressAt(slot);
      if (ring.kindAt(slot) === Kind.WRITE && this.#isOurs(Kind.WRITE, address)) visit(address & mask);
    }
    for (let i = 0; i < this.#staged; i++) visit(ring.addressAt(ring.sq.slot(i)) & mask);
  }

  detach(): void {
    this.#ring.close();
  }

  #publish(): void {
    if (this.#staged === 0) return;
    this.#ring.sq.commit(this.#staged);
    this.#doubles[this.#counter.txPosted]! += this.#staged;
    this.#doubles[this.#counter.txBytes]! += this.#stagedBytes;
    this.#writes += this.#staged;
    this.#staged = 0;
    this.#stagedBytes = 0;
    this.backlog = true;
  }

  /**
   * Publishes reads for the packets that may be there: one lot at a time, and none while a burst is in hand, since
   * the frame of a read that failed must not be in two completions.
   */
  #ask(): void {
    if (this.#asked > 0 || this.#scanned > 0) return;
    const pool = this.#pool;
    const { sq } = this.#ring;
    const count = sq.reserve(Math.min(this.#nextReads, pool.count));
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      this.#ring.read(i, this.#frames + address + HEADROOM, this.#room, address);
      pool.give(address, Holder.FILL | this.tag);
    }
    pool.remove(count);
    sq.commit(count);
    this.#asked = count;
    this.#brought = 0;
    this.#nextReads = Math.min(count * 4, BURST);
  }

  #enter(): number {
    const { sq } = this.#ring;
    this.#doubles[this.#counter.kicks]!++;
    const result = this.#ring.enter(sq.pending());
    this.backlog = sq.pending() > 0;
    if (isBenign(result)) return 0;
    this.#doubles[this.#counter.kickErrors]!++;
    return result;
  }

  /** Takes in the oldest completions up to the first that brings a packet. */
  #reap(): void {
    const { cq } = this.#ring;
    for (;;) {
      const count = cq.peek(BURST);
      let done = 0;
      while (done < count && this.#settle(cq.slot(done))) done++;
      if (done > 0) cq.release(done);
      if (done < count || count === 0) return;
    }
  }

  /** False if it brings a packet, for {@link receive}. */
  #settle(slot: number): boolean {
    const words = this.#words;
    const address = words[slot]!;
    const result = words[slot + 2]!;
    switch (words[slot + 1]) {
      case Kind.WRITE:
        if (this.#orphan && !this.#isOurs(Kind.WRITE, address)) return true;
        this.#pool.put(address);
        this.#completed++;
        this.#doubles[result < 0 ? this.#counter.txErrors : this.#counter.txPackets]!++;
        return true;
      case Kind.READ:
        if (result > 0 && result < this.#room) return false;
        this.#failed(address, result);
        return true;
      case Kind.POLL:
        this.#armed = false;
        if (!this.#dry) this.#hungry = true;
        return true;
      default:
        return true;
    }
  }

  /** A read without a packet: there is none, or it is too long, or the device is gone. */
  #failed(address: number, result: number): void {
    if (!this.#orphan || this.#isOurs(Kind.READ, address)) {
      this.#pool.put(address);
      if (result >= this.#room) this.#doubles[this.#counter.rxTooLong]!++;
      else if (result !== Errno.EAGAIN && result !== Errno.ECANCELED)
        this.#doubles[this.#counter.rxErrors]!++;
    }
    this.#asked--;
    if (result > 0) return;
    this.#hungry = false;
    this.#dry = true;
    this.#nextReads = Math.max(this.#brought, FEWEST_READS);
  }

  /** Whether an entry still says where its frame is: a dead worker may have passed it on, and not released it. */
  #isOurs(kind: number, address: number): boolean {
    const purpose = kind === Kind.WRITE ? Holder.TX : Holder.FILL;
    return this.#pool.holder(address) === (purpose | this.tag);
  }

  #eachCompletion(visit: (kind: 'rx' | 'completing', address: number) => void): void {
    const words = this.#words;
    const { cq } = this.#ring;
    const count = cq.pending();
    for (let i = this.#scanned; i < count; i++) {
      const slot = cq.slot(i);
      const kind = words[slot + 1]!;
      if (kind !== Kind.READ && kind !== Kind.WRITE) continue;
      if (this.#isOurs(kind, words[slot]!)) visit(kind === Kind.READ ? 'rx' : 'completing', words[slot]!);
    }
  }

  /** Publishes, for {@link takeBack}, what a dead worker had staged: it was decided. */
  #resume(): void {
    const ring = this.#ring;
    const { sq } = ring;
    let staged = (this.#words[this.#stagedAt]! - sq.cursor) | 0;
    if (staged < 0 || staged > sq.entries) staged = 0;
    for (let i = 0; i <= staged && i < sq.entries; i++) {
      const slot = sq.slot(i);
      if (ring.kindAt(slot) !== Kind.PUSHING) continue;
      // The mark comes before the entry is settled, the holder before the mark.
      if (i === staged && !this.#isOurs(Kind.WRITE, ring.addressAt(slot))) continue;
      ring.settle(slot);
      staged = Math.max(staged, i + 1);
    }
    for (let i = 0; i < staged; i++) this.#stagedBytes += ring.bytesAt(sq.slot(i));
    this.#staged = staged;
    this.#words[this.#stagedAt] = (sq.cursor + staged) | 0; // for this worker may die as well
    this.#publish();
  }
}
