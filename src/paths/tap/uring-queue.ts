/**
 * A tap queue driven through io_uring. Worker only.
 *
 * ```
 *   fill        provided buffers: frames for packets to come
 *   receive     completions of one multishot read, a frame each
 *   transmit    submission entries, one write a packet
 *   complete    completions of those writes, in the same ring
 * ```
 *
 * One io_uring_enter per burst submits the writes and runs the deferred work of the read; an idle queue
 * makes none, because the kernel raises a flag when there is something to run.
 *
 * When a worker dies the kernel cancels its requests, and the ring is of no use to another thread. Its
 * successor reads what the dead one left in the completion ring, takes back what was not submitted,
 * closes it, and opens a ring of its own: see datapath/takeover.ts.
 */
import { Errno } from '../../errors.ts';
import type { Shim } from '../../kernel/shim.ts';
import { type CounterIndex, pathCounters } from '../../memory/counters.ts';
import type { FramePool, PathLedger } from '../../memory/frames.ts';
import { Holder, holderTag } from '../../memory/holder.ts';
import { HEADROOM, type PathCounter, type PathId, PathSlot } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { roomOf } from '../frame-room.ts';
import type { PathQueue, QueueAddress } from '../path.ts';
import { SegmentSender } from './segments.ts';
import { isBenign, UringRing } from './uring.ts';

const REFILL = 32;

export class UringQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  /**
   * The tap itself: what arrives stays in its queue until our enter. Polling the ring's descriptor would
   * miss it, since deferred work wakes nobody but a waiting enter (io_uring.c, io_req_local_work_add).
   */
  readonly fd: number;
  backlog = false;

  readonly #ring: UringRing;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #frames: number;
  readonly #first: number;
  readonly #shift: number;
  readonly #room: number;
  readonly #orphan: boolean;
  readonly #segments: SegmentSender | undefined;
  /** Completions looked at by the last receive, given back by release. */
  #scanned = 0;
  #writes = 0;
  #completed = 0;
  #armed = false;
  /** What was published and not submitted has another owner now. */
  #taken = false;

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
    const { framesPerWorker, frameSize } = layout.geometry;
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.fd = words[(layout.slot(port, queue, path) + PathSlot.fd) >> 2]!;
    this.#ring = ring;
    this.#words = words;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#frames = layout.frames;
    this.#first = queue * framesPerWorker * frameSize;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#room = roomOf(frameSize);
    this.#orphan = orphan;
    this.#segments = SegmentSender.of(shim, memory, address);
  }

  /** Opens a ring for the calling thread; the negative errno where the kernel refuses io_uring. */
  static open(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue | number {
    const ring = UringRing.open(shim, memory, address);
    if (typeof ring === 'number') return ring;
    const opened = new UringQueue(shim, ring, memory, pool, address, false);
    opened.refill();
    opened.flush();
    return opened;
  }

  /** The ring a dead worker left behind: to be read out, not to be submitted to. */
  static adopt(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue {
    return new UringQueue(shim, new UringRing(shim, memory, address), memory, pool, address, true);
  }

  ready(max: number): number {
    const { cq } = this.#ring;
    const pending = cq.peek(max);
    if (pending > 0 || this.#orphan || !this.#ring.calls) return pending;
    this.#enter();
    return cq.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    const words = this.#words;
    const { cq } = this.#ring;
    const count = cq.peek(max);
    let packets = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const slot = cq.slot(i);
      const result = words[slot + 2]!;
      if (UringRing.isWrite(words, slot)) {
        if (this.#isOurs(true, words[slot]!)) this.#finish(words[slot]!, result);
        continue;
      }
      const flags = words[slot + 3]!;
      if (!UringRing.hasMore(flags)) this.#armed = false;
      if (!UringRing.hasBuffer(flags)) {
        // The read ended: no buffers (flush arms it again), cancelled with its worker, or an error.
        const expected = result === Errno.ENOBUFS || result === Errno.ECANCELED;
        if (result < 0 && !expected) this.#doubles[this.#counter.rxErrors]!++;
        continue;
      }
      if (!this.#isOurs(false, this.#addressOf(flags >>> 16))) continue;
      if (result >= this.#room) {
        this.#pool.put(this.#addressOf(flags >>> 16));
        this.#ring.used(1);
        this.#doubles[this.#counter.rxTooLong]!++;
        continue;
      }
      offset[packets] = this.#frames + this.#addressOf(flags >>> 16) + HEADROOM;
      bytes[packets] = result;
      packets++;
      total += result;
    }
    if (packets > 0) {
      this.#ring.used(packets);
      this.#doubles[this.#counter.rxPackets]! += packets;
      this.#doubles[this.#counter.rxBytes]! += total;
    }
    this.#scanned = count;
    return packets;
  }

  release(): void {
    if (this.#scanned > 0) this.#ring.cq.release(this.#scanned);
    this.#scanned = 0;
  }

  /** One entry is kept for the read itself. */
  room(wanted: number): number {
    return this.#ring.sq.reserve(wanted + 1) - 1;
  }

  /** Published at once, lest a worker that ends before it flushes takes packets along: the kernel reads in our enter. */
  push(offset: number, bytes: number): void {
    const address = offset - this.#frames;
    this.#ring.write(this.fd, offset, bytes, address);
    this.#pool.give(address, Holder.TX | this.tag);
    this.#doubles[this.#counter.txPosted]!++;
    this.#doubles[this.#counter.txBytes]! += bytes;
    this.#ring.sq.commit(1);
    this.#writes++;
    this.backlog = true;
  }

  sendSegment(offset: number, bytes: number, offload: number): boolean {
    if (this.#segments === undefined) return false;
    if (this.backlog) this.flush(); // writes to a tap are done when they are submitted
    if (this.backlog || !this.#segments.send(offset, bytes, offload)) return false;
    this.#doubles[this.#counter.txPosted]!++;
    this.#doubles[this.#counter.txPackets]!++;
    this.#doubles[this.#counter.txBytes]! += bytes;
    return true;
  }

  flush(): number {
    if (!this.#armed && this.#ring.buffers.pending() > 0) {
      this.#ring.readMany(this.fd);
      this.#ring.sq.commit(1);
      this.#armed = true;
      this.backlog = true;
    }
    return this.backlog ? this.#enter() : 0;
  }

  /** Nothing to do: receive meets the completions of writes on its way. */
  complete(): void {}

  refill(): void {
    const { buffers } = this.#ring;
    const pool = this.#pool;
    const lacking = buffers.entries - buffers.pending();
    if (lacking < REFILL) return;
    const count = Math.min(lacking, pool.count);
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const id = (address - this.#first) >> this.#shift;
      this.#ring.offer(i, this.#frames + address + HEADROOM, this.#room, id);
      pool.give(address, Holder.FILL | this.tag);
    }
    buffers.commit(count);
    pool.remove(count);
  }

  inFlight(): number {
    return this.#writes - this.#completed;
  }

  takeBack(visit: (offset: number, bytes: number) => void): number {
    const words = this.#words;
    const { sq } = this.#ring;
    const count = sq.pending();
    let packets = 0;
    for (let i = 0; i < count; i++) {
      const slot = sq.pendingSlot(i);
      if (!UringRing.isWrite(words, slot + 8) || !this.#sends(words[slot + 8]!)) continue;
      visit(this.#frames + words[slot + 8]!, words[slot + 6]!);
      packets++;
    }
    this.#doubles[this.#counter.txRescued]! += packets;
    this.#completed += packets;
    this.#taken = true;
    this.backlog = false;
    return packets;
  }

  ledger(): PathLedger {
    const waiting = { rx: 0, completing: 0 };
    this.#eachCompletion((kind) => waiting[kind]++);
    return {
      fill: this.#ring.buffers.pending() - waiting.rx,
      rx: waiting.rx,
      tx: this.inFlight() - waiting.completing,
      completing: waiting.completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    let received = 0;
    this.#eachCompletion((kind, address) => {
      if (kind === 'rx') received++;
      visit(address);
    });
    const { sq, buffers } = this.#ring;
    const unsent = sq.pending();
    for (let i = 0; i < unsent; i++) {
      const slot = sq.pendingSlot(i);
      const address = this.#words[slot + 8]!;
      if (UringRing.isWrite(this.#words, slot + 8) && this.#sends(address))
        visit(address & -this.#pool.frameSize);
    }
    // The oldest buffers that count as pending are those whose packets wait in the completion ring.
    const offered = buffers.pending();
    for (let i = received; i < offered; i++) visit(this.#addressOf(this.#ring.bufferId(i)));
  }

  detach(): void {
    this.#ring.close();
  }

  /** Whether an entry still says where its frame is: a dead worker may have passed it on, and not released it. */
  #isOurs(write: boolean, address: number): boolean {
    return !this.#orphan || this.#pool.holder(address) === ((write ? Holder.TX : Holder.FILL) | this.tag);
  }

  /** Whether the frame is still this path's to send: a worker that died may have taken it back. */
  #sends(address: number): boolean {
    return this.#pool.holder(address) === (Holder.TX | this.tag);
  }

  #addressOf(id: number): number {
    return this.#first + (id << this.#shift);
  }

  #enter(): number {
    this.#doubles[this.#counter.kicks]!++;
    const result = this.#ring.enter(this.#taken ? 0 : this.#ring.sq.pending());
    this.backlog = !this.#taken && this.#ring.sq.pending() > 0;
    if (isBenign(result)) return 0;
    this.#doubles[this.#counter.kickErrors]!++;
    return result;
  }

  #finish(address: number, result: number): void {
    this.#pool.put(address);
    this.#completed++;
    if (result < 0) this.#doubles[this.#counter.txErrors]!++;
    else this.#doubles[this.#counter.txPackets]!++;
  }

  #eachCompletion(visit: (kind: 'rx' | 'completing', address: number) => void): void {
    const words = this.#words;
    const { cq } = this.#ring;
    const count = cq.pending();
    for (let i = this.#scanned; i < count; i++) {
      const slot = cq.slot(i);
      const flags = words[slot + 3]!;
      const write = UringRing.isWrite(words, slot);
      if (!write && !UringRing.hasBuffer(flags)) continue;
      const address = write ? words[slot]! & -this.#pool.frameSize : this.#addressOf(flags >>> 16);
      if (this.#isOurs(write, address)) visit(write ? 'completing' : 'rx', address);
    }
  }
}
