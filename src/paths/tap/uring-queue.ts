/**
 * A tap queue driven through io_uring whose rings lie in the shared memory. Worker only.
 *
 * ```
 *   fill        provided-buffer ring: frames for packets to come        (area of Ring.FILL)
 *   receive     completions of one multishot read, a frame each         (area of Ring.RX, the CQ)
 *   transmit    submission entries, one write a packet                  (area of Ring.TX, the SQEs)
 *   complete    completions of those writes                             (the same CQ)
 * ```
 *
 * One io_uring_enter per burst submits the writes and runs the deferred work of the read; an idle queue
 * makes none, because the kernel raises a flag when there is something to run. The ring is
 * set up for the one thread that uses it (SINGLE_ISSUER, DEFER_TASKRUN): nothing in it moves outside
 * our own enter, so plain and atomic accesses mix safely with the kernel's.
 *
 * When a worker dies the kernel cancels its requests, and the ring is of no use to another thread. Its
 * successor reads what the dead one left in the completion ring, takes back what was not submitted,
 * closes it, and opens a ring of its own.
 */

import { Errno } from '../../errors.ts';
import { STEPS, Uring } from '../../kernel/abi.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { type CounterIndex, pathCounters } from '../../memory/counters.ts';
import { type FramePool, Holder, holderTag, type PathLedger } from '../../memory/frames.ts';
import { HEADROOM, type Layout, type PathCounter, type PathId, PathSlot, Ring } from '../../memory/layout.ts';
import { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathQueue } from '../path.ts';

const OP_WRITE = 23;
const OP_READ_MULTISHOT = 49;
const SQE_BUFFER_SELECT = 1 << 5;
const CQE_F_BUFFER = 1 << 0;
const CQE_F_MORE = 1 << 1;
/** IORING_SQ_CQ_OVERFLOW and IORING_SQ_TASKRUN: the kernel has something that needs our enter. */
const SQ_CALLS = (1 << 1) | (1 << 2);

/** The upper word of a request's user_data: what it was. */
const READ = 1;
const WRITE = 2;

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

  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #layout: Layout;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #pool: FramePool;
  readonly #slot: number;
  readonly #ring: number;
  readonly #first: number;
  readonly #frameShift: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;
  readonly #sqFlagsAt: number;
  readonly #usedAt: number;
  readonly #buffers: Producer;
  readonly #sq: Producer;
  readonly #cq: Consumer;
  /** Completions looked at by the last receive, given back by release. */
  #scanned = 0;
  #staged = 0;
  #writes = 0;
  #completed = 0;
  #armed = false;
  #orphan = false;

  private constructor(
    shim: Shim,
    memory: Memory,
    pool: FramePool,
    port: number,
    queue: number,
    path: PathId,
  ) {
    const { layout, words, halves, doubles } = memory;
    const slot = layout.slot(port, queue, path);
    const uring = (slot + PathSlot.uring) >> 2;
    const rings = layout.ring(port, queue, path, Ring.RX);
    const word = (field: number): number => (rings + words[uring + (field >> 2)]!) >> 2;
    const buffers = layout.ring(port, queue, path, Ring.FILL);
    const base = addressOf(memory.bytes);
    this.path = path;
    this.tag = holderTag(port, path);
    this.fd = words[(slot + PathSlot.fd) >> 2]!;
    this.#ring = words[(slot + PathSlot.uringFd) >> 2]!;
    this.#shim = shim;
    this.#memory = memory;
    this.#layout = layout;
    this.#words = words;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#pool = pool;
    this.#slot = slot;
    this.#first = queue * layout.geometry.framesPerWorker * layout.geometry.frameSize;
    this.#frameShift = 31 - Math.clz32(layout.geometry.frameSize);
    this.#baseLow = base >>> 0;
    this.#baseHigh = Math.floor(base / 2 ** 32);
    this.#sqFlagsAt = word(Uring.sqHead + 8);
    this.#usedAt = (slot + PathSlot.buffersUsed) >> 2;
    this.#cq = new Consumer(words, {
      consumer: word(Uring.cqHead),
      producer: word(Uring.cqHead + 4),
      flags: -1,
      slots: word(Uring.cqHead + 12),
      slotWords: 4,
      entries: words[uring + (Uring.cqEntries >> 2)]!,
    });
    this.#sq = new Producer(words, {
      consumer: word(Uring.sqHead),
      producer: word(Uring.sqHead + 4),
      flags: this.#sqFlagsAt,
      slots: layout.ring(port, queue, path, Ring.TX) >> 2,
      slotWords: 16,
      entries: words[uring + (Uring.sqEntries >> 2)]!,
    });
    // struct io_uring_buf_ring: its tail is the last half word of the first entry.
    this.#buffers = new Producer(
      words,
      {
        consumer: this.#usedAt,
        producer: (buffers + 14) >> 1,
        flags: -1,
        slots: buffers >> 2,
        slotWords: 4,
        entries: words[uring + (Uring.bufEntries >> 2)]!,
      },
      halves,
    );
  }

  /**
   * Sets a ring up for the calling thread.
   *
   * @returns the queue, or the negative errno with which the kernel refused io_uring; it is noted in
   *   the path slot for the coordinator to report
   */
  static open(
    shim: Shim,
    memory: Memory,
    pool: FramePool,
    port: number,
    queue: number,
    path: PathId,
  ): UringQueue | number {
    const { layout, words, bytes, view } = memory;
    const slot = layout.slot(port, queue, path);
    const uring = slot + PathSlot.uring;
    const base = addressOf(bytes);
    const { ringEntries } = layout.geometry;
    const u64 = (at: number, value: number): void => view.setBigUint64(uring + at, BigInt(value), true);
    u64(Uring.ringsAddr, base + layout.ring(port, queue, path, Ring.RX));
    u64(Uring.sqesAddr, base + layout.ring(port, queue, path, Ring.TX));
    u64(Uring.bufsAddr, base + layout.ring(port, queue, path, Ring.FILL));
    words[(uring + Uring.ringsRoom) >> 2] = layout.ringRoom(Ring.RX);
    words[(uring + Uring.sqesRoom) >> 2] = layout.ringRoom(Ring.TX);
    // Completions can never overflow: as many as buffers and writes together, and some to spare.
    words[(uring + Uring.sqEntries) >> 2] = ringEntries >> 2;
    words[(uring + Uring.cqEntries) >> 2] = ringEntries;
    words[(uring + Uring.bufEntries) >> 2] = ringEntries >> 1;
    words[(uring + Uring.bufGroup) >> 2] = 0;
    words[(slot + PathSlot.buffersUsed) >> 2] = 0;
    const fd = shim.uringOpen(bytes.subarray(uring, uring + Uring.bytes));
    words[(slot + PathSlot.uringErrno) >> 2] = fd < 0 ? -fd : 0;
    words[(slot + PathSlot.uringFd) >> 2] = Math.max(fd, 0);
    if (fd < 0) return fd;
    const opened = new UringQueue(shim, memory, pool, port, queue, path);
    opened.refill();
    opened.flush();
    return opened;
  }

  /** The ring a dead worker left behind: to be read out, not to be submitted to. */
  static adopt(
    shim: Shim,
    memory: Memory,
    pool: FramePool,
    port: number,
    queue: number,
    path: PathId,
  ): UringQueue {
    const orphan = new UringQueue(shim, memory, pool, port, queue, path);
    orphan.#orphan = true;
    orphan.#passOver();
    return orphan;
  }

  ready(max: number): number {
    const pending = this.#cq.peek(max);
    if (pending > 0 || this.#orphan) return pending;
    if ((Atomics.load(this.#words, this.#sqFlagsAt) & SQ_CALLS) === 0) return 0;
    this.#enter();
    return this.#cq.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    const words = this.#words;
    const count = this.#cq.peek(max);
    let packets = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.#cq.slot(i);
      const result = words[slot + 2]!;
      if (words[slot + 1] === WRITE) {
        this.#finish(words[slot]!, result);
        continue;
      }
      const flags = words[slot + 3]!;
      if ((flags & CQE_F_MORE) === 0) this.#armed = false;
      if ((flags & CQE_F_BUFFER) === 0) {
        // The read ended: no buffers (refill arms it again), cancelled with its worker, or an error.
        if (result < 0 && result !== Errno.ENOBUFS && result !== ECANCELED)
          this.#doubles[this.#counter.rxErrors]!++;
        continue;
      }
      const address = this.#first + ((flags >>> 16) << this.#frameShift) + HEADROOM;
      offset[packets] = this.#layout.frames + address;
      bytes[packets] = result;
      packets++;
      total += result;
    }
    if (packets > 0) {
      words[this.#usedAt] = (words[this.#usedAt]! + packets) | 0;
      this.#doubles[this.#counter.rxPackets]! += packets;
      this.#doubles[this.#counter.rxBytes]! += total;
    }
    this.#scanned = count;
    return packets;
  }

  release(): void {
    if (this.#scanned > 0) this.#cq.release(this.#scanned);
    this.#scanned = 0;
  }

  /** One entry is kept for the read itself. */
  room(wanted: number): number {
    return this.#sq.reserve(wanted + this.#staged + 1) - this.#staged - 1;
  }

  push(offset: number, bytes: number): void {
    const words = this.#words;
    const slot = this.#sq.slot(this.#staged);
    const low = this.#baseLow + offset;
    words[slot] = OP_WRITE;
    words[slot + 1] = this.fd;
    words[slot + 2] = 0;
    words[slot + 3] = 0;
    words[slot + 4] = low | 0;
    words[slot + 5] = low >= 2 ** 32 ? this.#baseHigh + 1 : this.#baseHigh;
    words[slot + 6] = bytes;
    words[slot + 7] = 0;
    words[slot + 8] = offset - this.#layout.frames;
    words[slot + 9] = WRITE;
    words[slot + 10] = 0;
    this.#pool.give(offset - this.#layout.frames, Holder.TX | this.tag);
    this.#staged++;
    this.#writes++;
    this.#doubles[this.#counter.txBytes]! += bytes;
  }

  flush(): number {
    if (this.#staged > 0) this.#doubles[this.#counter.txPosted]! += this.#staged;
    if (!this.#armed && this.#buffers.pending() > 0) this.#arm();
    if (this.#staged === 0 && !this.backlog) return 0;
    this.#sq.commit(this.#staged);
    this.#staged = 0;
    return this.#enter();
  }

  complete(): void {
    // Receive meets the completions of writes on its way; here only when nothing is received.
  }

  refill(): void {
    const lacking = this.#buffers.entries - this.#buffers.pending();
    if (lacking < REFILL) return;
    const { halves } = this.#memory;
    const words = this.#words;
    const pool = this.#pool;
    const count = Math.min(lacking, pool.count);
    if (count <= 0) return;
    const room = (1 << this.#frameShift) - HEADROOM;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const slot = this.#buffers.slot(i);
      const low = this.#baseLow + this.#layout.frames + address + HEADROOM;
      words[slot] = low | 0;
      words[slot + 1] = low >= 2 ** 32 ? this.#baseHigh + 1 : this.#baseHigh;
      words[slot + 2] = room;
      // A half word: the other half of the first entry's word is the ring's tail.
      halves[(slot + 3) << 1] = (address - this.#first) >> this.#frameShift;
      pool.give(address, Holder.FILL | this.tag);
    }
    this.#buffers.commit(count);
    pool.remove(count);
  }

  inFlight(): number {
    return this.#writes - this.#completed;
  }

  takeBack(visit: (offset: number, bytes: number) => void): number {
    const words = this.#words;
    const count = this.#sq.pending();
    let packets = 0;
    for (let i = 0; i < count; i++) {
      const slot = this.#sq.pendingSlot(i);
      if (words[slot + 9] !== WRITE) continue;
      visit(this.#layout.frames + words[slot + 8]!, words[slot + 6]!);
      packets++;
    }
    this.#doubles[this.#counter.txRescued]! += packets;
    this.#completed += packets;
    this.backlog = false;
    return packets;
  }

  ledger(): PathLedger {
    const waiting = { rx: 0, completing: 0 };
    this.#eachCompletion((kind) => waiting[kind]++);
    return {
      fill: this.#buffers.pending() - waiting.rx,
      rx: waiting.rx,
      tx: this.inFlight() - waiting.completing,
      completing: waiting.completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    this.#eachCompletion((_kind, address) => visit(address));
    const count = this.#sq.pending();
    for (let i = 0; i < count; i++) {
      const slot = this.#sq.pendingSlot(i);
      if (this.#words[slot + 9] === WRITE) visit(this.#words[slot + 8]! & -this.#pool.frameSize);
    }
    const buffers = this.#buffers.pending();
    for (let i = this.#unreceived(); i < buffers; i++) {
      const slot = this.#buffers.pendingSlot(i);
      visit(this.#first + (this.#memory.halves[(slot + 3) << 1]! << this.#frameShift));
    }
  }

  detach(): void {
    this.#shim.close(this.#ring);
    this.#words[(this.#slot + PathSlot.uringFd) >> 2] = 0;
  }

  #arm(): void {
    const words = this.#words;
    const slot = this.#sq.slot(this.#staged);
    words.fill(0, slot, slot + 16);
    words[slot] = OP_READ_MULTISHOT | (SQE_BUFFER_SELECT << 8);
    words[slot + 1] = this.fd;
    words[slot + 9] = READ;
    this.#staged++;
    this.#armed = true;
  }

  /** Submits what is published and runs what the kernel has deferred. 0, or a negative errno. */
  #enter(): number {
    this.#doubles[this.#counter.kicks]!++;
    const result = this.#shim.uringEnter(this.#ring, this.#sq.pending());
    this.backlog = this.#sq.pending() > 0;
    if (result >= 0 || result === Errno.EAGAIN || result === Errno.EBUSY || result === Errno.EINTR) return 0;
    this.#doubles[this.#counter.kickErrors]!++;
    return result;
  }

  #finish(address: number, result: number): void {
    this.#pool.put(address);
    this.#completed++;
    if (result < 0) this.#doubles[this.#counter.txErrors]!++;
    else this.#doubles[this.#counter.txPackets]!++;
  }

  /** Packets that wait in the completion ring, beyond those the last receive has read. */
  #unreceived(): number {
    let count = 0;
    this.#eachCompletion((kind) => {
      if (kind === 'rx') count++;
    });
    return count;
  }

  #eachCompletion(visit: (kind: 'rx' | 'completing', address: number) => void): void {
    const words = this.#words;
    const count = this.#cq.pending();
    for (let i = this.#scanned; i < count; i++) {
      const slot = this.#cq.slot(i);
      if (words[slot + 1] === WRITE) visit('completing', words[slot]! & -this.#pool.frameSize);
      else if (words[slot + 3]! & CQE_F_BUFFER) {
        visit('rx', this.#first + ((words[slot + 3]! >>> 16) << this.#frameShift));
      }
    }
  }

  /** After a worker's death: releases the completions whose frames it had already passed on. */
  #passOver(): void {
    const words = this.#words;
    while (this.#cq.peek(1) === 1) {
      const slot = this.#cq.slot(0);
      const write = words[slot + 1] === WRITE;
      if (!write && (words[slot + 3]! & CQE_F_BUFFER) === 0) break;
      const address = write ? words[slot]! : this.#first + ((words[slot + 3]! >>> 16) << this.#frameShift);
      if (this.#pool.holder(address) === ((write ? Holder.TX : Holder.FILL) | this.tag)) break;
      this.#cq.release(1);
    }
  }
}

const ECANCELED = -125;

/** What the shim's `step` says about a refused ring. */
export const uringStep = (memory: Memory, slot: number): string =>
  STEPS[memory.words[(slot + PathSlot.uring + Uring.step) >> 2]!] ?? 'io_uring';
