/**
 * One io_uring inside the shared memory, and the words of its entries. Worker only.
 *
 * Opens the ring for the calling thread alone (SINGLE_ISSUER, DEFER_TASKRUN): the kernel moves nothing in it
 * outside our own enter, so plain and atomic accesses mix safely with its own. The two areas:
 *
 * ```
 *   Ring.RX     completion ring        struct io_uring_cqe       16 bytes: user_data, result, flags
 *   Ring.TX     submission entries     struct io_uring_sqe       64 bytes
 * ```
 *
 * The file and this worker's own frames are registered with the ring where the kernel takes them; frames of
 * other workers are named by their address. Layouts: include/uapi/linux/io_uring.h. What the entries mean for a tap
 * is uring-queue.ts's business.
 */
import { Errno } from '../../errors.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { Registered } from '../../memory/abi.ts';
import type { QueueAddress } from '../../memory/layout.ts';
import { askForUring, ownFrames, uringPlace } from '../../memory/requests.ts';
import { Consumer, Producer } from '../../memory/ring.ts';
import type { Memory } from '../../memory/shared.ts';

const OP_READV = 1;
const OP_READ_FIXED = 4;
const OP_WRITE_FIXED = 5;
const OP_POLL_ADD = 6;
const OP_READ = 22;
const OP_WRITE = 23;
/** IOSQE_FIXED_FILE, in the entry's first word. */
const FIXED_FILE = 1 << 8;
const RWF_NOWAIT = 8;
const POLLIN = 1;
/** IORING_SQ_CQ_OVERFLOW and IORING_SQ_TASKRUN: the kernel has something that needs our enter. */
const SQ_CALLS = (1 << 1) | (1 << 2);

/** Words of an entry, of `struct io_uring_sqe`. */
const FD = 1;
const ADDRESS = 4;
const LENGTH = 6;
const FLAGS = 7;
const USER_DATA = 8;

/** The upper word of an entry's user_data: what it is. The lower word of a read or a write is its address. */
export const Kind = {
  /** Nothing any more: a write that was taken back. */
  NOTHING: 0,
  READ: 1,
  WRITE: 2,
  POLL: 3,
  /** A write whose frame says already that it is here, while the mark of what is staged does not. */
  PUSHING: -1,
} as const;

export class UringRing {
  readonly sq: Producer;
  readonly cq: Consumer;

  readonly #shim: Shim;
  readonly #words: Int32Array;
  readonly #fdAt: number;
  readonly #sqFlagsAt: number;
  readonly #fd: number;
  /** Address of the shared memory, its halves; and from which offset on a carry goes into the upper one. */
  readonly #low: number;
  readonly #high: number;
  readonly #carryAt: number;
  /** The file as entries name it, and the flags that go with that. */
  readonly #file: number;
  readonly #fileFlags: number;
  /** The range that is registered: where it begins, and its bytes, 0 if none is. */
  readonly #first: number;
  readonly #registered: number;

  /** The ring that the path slot describes: opened just now, or left behind by a dead worker. */
  constructor(shim: Shim, memory: Memory, address: QueueAddress) {
    const { words } = memory;
    const { sq, cq, registered, file, framesBytes } = uringPlace(memory, address);
    const base = addressOf(memory.bytes);
    this.#shim = shim;
    this.#words = words;
    this.#fdAt = memory.slot(address).at('uringFd');
    this.#sqFlagsAt = sq.flags;
    this.#fd = words[this.#fdAt]!;
    this.#low = base | 0;
    this.#high = Math.floor(base / 2 ** 32);
    this.#carryAt = 2 ** 32 - (base >>> 0);
    this.#file = registered & Registered.file ? 0 : file;
    this.#fileFlags = registered & Registered.file ? FIXED_FILE : 0;
    this.#first = ownFrames(memory, address.queue);
    this.#registered = registered & Registered.frames ? framesBytes : 0;
    this.cq = new Consumer(words, cq);
    this.sq = new Producer(words, sq);
  }

  /**
   * Sets a ring up for the calling thread, and for the tap queue that the path slot names.
   *
   * @returns the ring, or the negative errno with which the kernel refused io_uring; it is noted in the
   *   path slot for the coordinator to report
   */
  static open(shim: Shim, memory: Memory, address: QueueAddress): UringRing | number {
    const slot = memory.slot(address);
    const request = askForUring(memory, address, addressOf(memory.bytes));
    slot.staged = 0; // before there is a ring that it could be about
    const fd = shim.uringOpen(request);
    slot.uringErrno = fd < 0 ? -fd : 0;
    slot.uringFd = Math.max(fd, 0);
    return fd < 0 ? fd : new UringRing(shim, memory, address);
  }

  /** Whether the kernel waits for an enter of ours. */
  get calls(): boolean {
    return (Atomics.load(this.#words, this.#sqFlagsAt) & SQ_CALLS) !== 0;
  }

  /** Submits so many of the published entries and runs what the kernel has deferred. How many, or -errno. */
  enter(submit: number): number {
    return this.#shim.uringEnter(this.#fd, submit);
  }

  /**
   * Stages a write as the `staged`-th entry, of kind {@link Kind.PUSHING}. `offset` counts from the start of the
   * shared memory.
   *
   * @returns word index of the entry, to be settled
   */
  write(staged: number, offset: number, bytes: number, address: number): number {
    const op = this.#isRegistered(offset) ? OP_WRITE_FIXED : OP_WRITE;
    return this.#transfer(staged, op, offset, bytes, 0, address, Kind.PUSHING);
  }

  /** Stages a read of one packet, which fails with EAGAIN if there is none. */
  read(staged: number, offset: number, room: number, address: number): void {
    const op = this.#isRegistered(offset) ? OP_READ_FIXED : OP_READ;
    this.#transfer(staged, op, offset, room, RWF_NOWAIT, address, Kind.READ);
  }

  /** The same into a pair of read-pairs.ts. */
  readLong(staged: number, pair: number, address: number): void {
    this.#transfer(staged, OP_READV, pair, 2, RWF_NOWAIT, address, Kind.READ);
  }

  /** Stages the question whether there are packets to read: it completes, once, as soon as there are. */
  poll(staged: number): void {
    const words = this.#words;
    const slot = this.sq.slot(staged);
    words[slot] = OP_POLL_ADD | this.#fileFlags;
    words[slot + FD] = this.#file;
    words[slot + ADDRESS] = 0;
    words[slot + ADDRESS + 1] = 0;
    words[slot + LENGTH] = 0;
    words[slot + FLAGS] = POLLIN;
    words[slot + USER_DATA] = 0;
    words[slot + USER_DATA + 1] = Kind.POLL;
  }

  /** Makes nothing of a write that the kernel has not taken (IORING_OP_NOP). */
  cancel(slot: number): void {
    this.#words[slot] = 0;
    this.#words[slot + USER_DATA + 1] = Kind.NOTHING;
  }

  /** Kind of the completion at this word index; its address, of a read or a write; and its result. */
  doneKind(slot: number): number {
    return this.#words[slot + 1]!;
  }

  doneAddress(slot: number): number {
    return this.#words[slot]!;
  }

  doneResult(slot: number): number {
    return this.#words[slot + 2]!;
  }

  /** Kind of the submission entry at this word index. */
  kindAt(slot: number): number {
    return this.#words[slot + USER_DATA + 1]!;
  }

  /** Address in the submission entry at this word index, of a read or a write. */
  addressAt(slot: number): number {
    return this.#words[slot + USER_DATA]!;
  }

  bytesAt(slot: number): number {
    return this.#words[slot + LENGTH]!;
  }

  /** The write that was staged at this word index is one now. */
  settle(slot: number): void {
    this.#words[slot + USER_DATA + 1] = Kind.WRITE;
  }

  close(): void {
    this.#shim.close(this.#fd);
    this.#words[this.#fdAt] = 0;
  }

  #isRegistered(offset: number): boolean {
    return (offset - this.#first) >>> 0 < this.#registered;
  }

  /** Words 2, 3 and from 10 on are 0 in every entry, as the kernel gave us the pages. */
  #transfer(
    staged: number,
    op: number,
    offset: number,
    bytes: number,
    flags: number,
    address: number,
    kind: number,
  ): number {
    const words = this.#words;
    const slot = this.sq.slot(staged);
    words[slot] = op | this.#fileFlags;
    words[slot + FD] = this.#file;
    words[slot + ADDRESS] = (this.#low + offset) | 0;
    words[slot + ADDRESS + 1] = offset >= this.#carryAt ? this.#high + 1 : this.#high;
    words[slot + LENGTH] = bytes;
    words[slot + FLAGS] = flags;
    words[slot + USER_DATA] = address;
    words[slot + USER_DATA + 1] = kind;
    return slot;
  }
}

/** Results of an enter that mean: come again. */
export const isBenign = (result: number): boolean =>
  result >= 0 || result === Errno.EAGAIN || result === Errno.EBUSY || result === Errno.EINTR;
