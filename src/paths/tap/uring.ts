/**
 * One io_uring inside the shared memory, and the words of its entries. Worker only.
 *
 * The ring belongs to the calling thread alone (SINGLE_ISSUER, DEFER_TASKRUN). The kernel changes it only inside our own
 * enter, so our plain and atomic accesses never race with the kernel's. The two areas:
 *
 * ```
 *   Ring.RX     completion ring        struct io_uring_cqe       16 bytes: user_data, result, flags
 *   Ring.TX     submission entries     struct io_uring_sqe       64 bytes
 * ```
 *
 * The file and this worker's own frames are registered with the ring if the kernel allows it. Entries name frames of other
 * workers by their address. Layouts: include/uapi/linux/io_uring.h.
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
/** IORING_SQ_CQ_OVERFLOW and IORING_SQ_TASKRUN: the kernel has work that needs our enter. */
const SQ_CALLS = (1 << 1) | (1 << 2);

/** Words of an entry, of `struct io_uring_sqe`. */
const FD = 1;
const ADDRESS = 4;
const LENGTH = 6;
const FLAGS = 7;
const USER_DATA = 8;

/** The upper word of an entry's user_data. The lower word of a read or a write is the address of its frame. */
export const Kind = {
  /** A write that was taken back. */
  NOTHING: 0,
  READ: 1,
  WRITE: 2,
  POLL: 3,
  /** A write whose frame may have its new owner already, and that `staged` of the path slot may not count yet. */
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
  /** The halves of the shared memory's address, and the offset from which on a sum carries into the upper half. */
  readonly #low: number;
  readonly #high: number;
  readonly #carryAt: number;
  /** The file as entries name it, and their flags for that. */
  readonly #file: number;
  readonly #fileFlags: number;
  /** Offset and bytes of the registered range; 0 bytes if none is registered. */
  readonly #first: number;
  readonly #registered: number;

  /** The ring that the path slot describes: a new one, or the ring of a dead worker. */
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
   * Sets a ring up for the calling thread and the tap queue of the path slot.
   *
   * @returns the ring, or the negative errno with which the kernel refused io_uring, which is also written to the path slot
   *   for the coordinator to report
   */
  static open(shim: Shim, memory: Memory, address: QueueAddress): UringRing | number {
    const slot = memory.slot(address);
    const request = askForUring(memory, address, addressOf(memory.bytes));
    slot.staged = 0; // before the ring exists whose entries it counts
    const fd = shim.uringOpen(request, memory.bytes);
    slot.uringErrno = fd < 0 ? -fd : 0;
    slot.uringFd = Math.max(fd, 0);
    return fd < 0 ? fd : new UringRing(shim, memory, address);
  }

  /** Whether the kernel needs an enter of ours. */
  get calls(): boolean {
    return (Atomics.load(this.#words, this.#sqFlagsAt) & SQ_CALLS) !== 0;
  }

  /** Submits so many published entries, and runs the work that the kernel has deferred. How many, or -errno. */
  enter(submit: number): number {
    return this.#shim.uringEnter(this.#fd, submit);
  }

  /**
   * Stages a write as the `staged`-th entry, of kind {@link Kind.PUSHING}. `offset` counts from the start of the
   * shared memory.
   *
   * @returns word index of the entry, for {@link settle}
   */
  write(staged: number, offset: number, bytes: number, address: number): number {
    const op = this.#isRegistered(offset) ? OP_WRITE_FIXED : OP_WRITE;
    return this.#transfer(staged, op, offset, bytes, 0, address, Kind.PUSHING);
  }

  /** Stages a read of one packet, which fails with EAGAIN if no packet is there. */
  read(staged: number, offset: number, room: number, address: number): void {
    const op = this.#isRegistered(offset) ? OP_READ_FIXED : OP_READ;
    this.#transfer(staged, op, offset, room, RWF_NOWAIT, address, Kind.READ);
  }

  /** The same into a pair of buffers: see read-pairs.ts. */
  readLong(staged: number, pair: number, address: number): void {
    this.#transfer(staged, OP_READV, pair, 2, RWF_NOWAIT, address, Kind.READ);
  }

  /** Stages a poll, which completes once, as soon as packets are there. */
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

  /** Turns a write that the kernel has not read into IORING_OP_NOP. */
  cancel(slot: number): void {
    this.#words[slot] = 0;
    this.#words[slot + USER_DATA + 1] = Kind.NOTHING;
  }

  /** Of the completion at this word index: its kind, the address of a read or a write, and its result. */
  doneKind(slot: number): number {
    return this.#words[slot + 1]!;
  }

  doneAddress(slot: number): number {
    return this.#words[slot]!;
  }

  doneResult(slot: number): number {
    return this.#words[slot + 2]!;
  }

  /** Of the submission entry at this word index: its kind, the address and bytes of a read or a write. */
  kindAt(slot: number): number {
    return this.#words[slot + USER_DATA + 1]!;
  }

  addressAt(slot: number): number {
    return this.#words[slot + USER_DATA]!;
  }

  bytesAt(slot: number): number {
    return this.#words[slot + LENGTH]!;
  }

  /** Turns the entry at this word index from {@link Kind.PUSHING} into a write. */
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

  /** Words 2, 3 and from 10 on are never written: the kernel zeroed the pages. */
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

/** Whether an enter that ended in this may be repeated. */
export const isBenign = (result: number): boolean =>
  result >= 0 || result === Errno.EAGAIN || result === Errno.EBUSY || result === Errno.EINTR;
