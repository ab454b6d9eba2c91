/**
 * One io_uring inside the shared memory, and the words of its entries. Worker only.
 *
 * Opens the ring for the calling thread alone (SINGLE_ISSUER, DEFER_TASKRUN): the kernel moves nothing in it
 * outside our own enter, so plain and atomic accesses mix safely with its own. The three areas:
 *
 * ```
 *   Ring.FILL   provided-buffer ring   struct io_uring_buf       16 bytes: address, length, id
 *   Ring.RX     completion ring        struct io_uring_cqe       16 bytes: user_data, result, flags
 *   Ring.TX     submission entries     struct io_uring_sqe       64 bytes
 * ```
 *
 * Layouts: include/uapi/linux/io_uring.h. What the entries mean for a tap is uring-queue.ts's business.
 */
import { Errno } from '../../errors.ts';
import { Uring } from '../../kernel/abi.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { PathSlot, Ring } from '../../memory/layout.ts';
import { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';
import type { QueueAddress } from '../path.ts';

const OP_WRITE = 23;
const OP_READ_MULTISHOT = 49;
const SQE_BUFFER_SELECT = 1 << 5;
const CQE_F_BUFFER = 1 << 0;
const CQE_F_MORE = 1 << 1;
/** IORING_SQ_CQ_OVERFLOW and IORING_SQ_TASKRUN: the kernel has something that needs our enter. */
const SQ_CALLS = (1 << 1) | (1 << 2);

/** The upper word of an entry's user_data: what it is. The lower word of a write is its address. */
const READ = 1;
const WRITE = 2;

export class UringRing {
  readonly sq: Producer;
  readonly cq: Consumer;
  readonly buffers: Producer;

  readonly #shim: Shim;
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  readonly #fdAt: number;
  readonly #usedAt: number;
  readonly #sqFlagsAt: number;
  readonly #fd: number;
  readonly #baseLow: number;
  readonly #baseHigh: number;

  /** The ring that the path slot describes: opened just now, or left behind by a dead worker. */
  constructor(shim: Shim, memory: Memory, { port, queue, path }: QueueAddress) {
    const { layout, words, halves } = memory;
    const slot = layout.slot(port, queue, path);
    const uring = (slot + PathSlot.uring) >> 2;
    const rings = layout.ring(port, queue, path, Ring.RX);
    const word = (field: number): number => (rings + words[uring + (field >> 2)]!) >> 2;
    const entries = (field: number): number => words[uring + (field >> 2)]!;
    const buffers = layout.ring(port, queue, path, Ring.FILL);
    const base = addressOf(memory.bytes);
    this.#shim = shim;
    this.#words = words;
    this.#halves = halves;
    this.#fdAt = (slot + PathSlot.uringFd) >> 2;
    this.#usedAt = (slot + PathSlot.buffersUsed) >> 2;
    this.#sqFlagsAt = word(Uring.sqHead + 8);
    this.#fd = words[this.#fdAt]!;
    this.#baseLow = base >>> 0;
    this.#baseHigh = Math.floor(base / 2 ** 32);
    this.cq = new Consumer(words, {
      consumer: word(Uring.cqHead),
      producer: word(Uring.cqHead + 4),
      flags: -1,
      slots: word(Uring.cqHead + 12),
      slotWords: 4,
      entries: entries(Uring.cqEntries),
    });
    this.sq = new Producer(words, {
      consumer: word(Uring.sqHead),
      producer: word(Uring.sqHead + 4),
      flags: this.#sqFlagsAt,
      slots: layout.ring(port, queue, path, Ring.TX) >> 2,
      slotWords: 16,
      entries: entries(Uring.sqEntries),
    });
    // struct io_uring_buf_ring: its tail is the last half word of the first entry.
    this.buffers = new Producer(
      words,
      {
        consumer: this.#usedAt,
        producer: (buffers + 14) >> 1,
        flags: -1,
        slots: buffers >> 2,
        slotWords: 4,
        entries: entries(Uring.bufEntries),
      },
      halves,
    );
  }

  /**
   * Sets a ring up for the calling thread.
   *
   * @returns the ring, or the negative errno with which the kernel refused io_uring; it is noted in the
   *   path slot for the coordinator to report
   */
  static open(shim: Shim, memory: Memory, address: QueueAddress): UringRing | number {
    const { port, queue, path } = address;
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
    // As many completions as buffers and writes together, and some to spare. Only when a whole ring of another
    // path is rescued may there be more for a moment: the kernel keeps those (IORING_FEAT_NODROP).
    words[(uring + Uring.sqEntries) >> 2] = ringEntries >> 2;
    words[(uring + Uring.cqEntries) >> 2] = ringEntries;
    words[(uring + Uring.bufEntries) >> 2] = ringEntries >> 1;
    words[(uring + Uring.bufGroup) >> 2] = 0;
    words[(slot + PathSlot.buffersUsed) >> 2] = 0;
    const fd = shim.uringOpen(bytes.subarray(uring, uring + Uring.bytes));
    words[(slot + PathSlot.uringErrno) >> 2] = fd < 0 ? -fd : 0;
    words[(slot + PathSlot.uringFd) >> 2] = Math.max(fd, 0);
    return fd < 0 ? fd : new UringRing(shim, memory, address);
  }

  /** Whether the kernel waits for an enter of ours. One plain look when it does not. */
  get calls(): boolean {
    return (Atomics.load(this.#words, this.#sqFlagsAt) & SQ_CALLS) !== 0;
  }

  /** Submits so many of the published entries and runs what the kernel has deferred. How many, or -errno. */
  enter(submit: number): number {
    return this.#shim.uringEnter(this.#fd, submit);
  }

  /** Writes the next entry: a write. `offset` counts from the start of the shared memory. */
  write(fd: number, offset: number, bytes: number, address: number): void {
    const words = this.#words;
    const slot = this.sq.slot(0);
    const low = this.#baseLow + offset;
    words[slot] = OP_WRITE;
    words[slot + 1] = fd;
    words[slot + 2] = 0;
    words[slot + 3] = 0;
    words[slot + 4] = low | 0;
    words[slot + 5] = low >= 2 ** 32 ? this.#baseHigh + 1 : this.#baseHigh;
    words[slot + 6] = bytes;
    words[slot + 7] = 0;
    words[slot + 8] = address;
    words[slot + 9] = WRITE;
    words[slot + 10] = 0;
  }

  /** Writes the next entry: a read that fills a provided buffer for each packet until buffers run out. */
  readMany(fd: number): void {
    const words = this.#words;
    const slot = this.sq.slot(0);
    words.fill(0, slot, slot + 16);
    words[slot] = OP_READ_MULTISHOT | (SQE_BUFFER_SELECT << 8);
    words[slot + 1] = fd;
    words[slot + 9] = READ;
  }

  /** Stages a buffer as the `staged`-th; the kernel names it by `id` when it has filled it. */
  offer(staged: number, offset: number, room: number, id: number): void {
    const words = this.#words;
    const slot = this.buffers.slot(staged);
    const low = this.#baseLow + offset;
    words[slot] = low | 0;
    words[slot + 1] = low >= 2 ** 32 ? this.#baseHigh + 1 : this.#baseHigh;
    words[slot + 2] = room;
    // A half word: the other half of the first entry's word is the ring's tail.
    this.#halves[(slot + 3) << 1] = id;
  }

  /** The kernel has taken `count` more buffers, as its completions say. */
  used(count: number): void {
    this.#words[this.#usedAt] = (this.#words[this.#usedAt]! + count) | 0;
  }

  /** Id of the i-th buffer the kernel has not taken. */
  bufferId(i: number): number {
    return this.#halves[(this.buffers.pendingSlot(i) + 3) << 1]!;
  }

  /** What an entry at this word index is: of either ring, both carry user_data. */
  static isWrite(words: Int32Array, userData: number): boolean {
    return words[userData + 1] === WRITE;
  }

  static hasBuffer(flags: number): boolean {
    return (flags & CQE_F_BUFFER) !== 0;
  }

  static hasMore(flags: number): boolean {
    return (flags & CQE_F_MORE) !== 0;
  }

  close(): void {
    this.#shim.close(this.#fd);
    this.#words[this.#fdAt] = 0;
  }
}

/** Results of an enter that mean: come again. */
export const isBenign = (result: number): boolean =>
  result >= 0 || result === Errno.EAGAIN || result === Errno.EBUSY || result === Errno.EINTR;
