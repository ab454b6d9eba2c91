/**
 * The reads of a tap queue on io_uring: how many are submitted when, and what their completions bring. Worker only.
 *
 * **Batches.** The queue submits one batch of reads at a time. A read that finds no packet completes with EAGAIN. The next
 * batch is larger if the last one brought packets.
 *
 * **Single packets.** When a batch has brought one packet or none, packets are read one at a time and without the ring
 * ({@link DirectTap}), until two come in a row.
 *
 * **Long packets.** A packet that does not fit its frame is received in pieces ({@link LongPackets}), and its completion is
 * released with the last piece. Reads that can take a long packet cost more, so batches use them only where such packets are
 * expected, or after the first one. That one is lost, with the other long packets of its batch.
 *
 * **Idle.** After {@link MAX_SINGLE_READS} reads without a packet, the queue submits a poll (IORING_OP_POLL_ADD) and reads again when the
 * kernel raises a flag in shared memory: an idle queue makes no system call.
 */
import { Errno } from '../../errors.ts';
import type { FramePool } from '../../memory/frames.ts';
import { BURST, HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { DirectTap } from './direct.ts';
import { LongPackets } from './long-packets.ts';
import type { ReadPairs } from './read-pairs.ts';
import type { TapFrames } from './tap-frames.ts';
import { Kind, type UringRing } from './uring.ts';

/** Reads of a batch after one that brought almost nothing. A read that finds nothing costs a quarter of one that does. */
const MIN_READS = 4;

/**
 * Direct reads, one a round, before the queue polls: some 25 µs, in which a peer that waits for an answer sends its next
 * request.
 */
const MAX_SINGLE_READS = 64;

export class UringReads {
  readonly #ring: UringRing;
  readonly #direct: DirectTap;
  readonly #frames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #long: LongPackets;
  readonly #pool: FramePool;
  readonly #words: Int32Array;
  readonly #readsLongAt: number;
  #readsLong: boolean;
  /** Completions that the last receive read, for release: all of them reads that brought a packet. */
  #scanned = 0;
  /** Reads submitted whose completions were not received, and how many of the same batch have brought packets. */
  #outstanding = 0;
  #filled = 0;
  #nextReads = MIN_READS;
  /** Whether a batch of reads may find packets. */
  #expectsPackets = false;
  /** Whether a poll is submitted. */
  #isPolling = false;
  /** Whether a read has found nothing since the poll was submitted: its completion is out of date then. */
  #pollIsStale = false;
  /** Direct reads that are left before a poll, and whether the last one found a packet. */
  #singleReads = 0;
  #found = false;

  constructor(
    ring: UringRing,
    direct: DirectTap,
    memory: Memory,
    frames: TapFrames,
    pairs: ReadPairs,
    address: QueueAddress,
  ) {
    this.#ring = ring;
    this.#direct = direct;
    this.#frames = frames;
    this.#pairs = pairs;
    this.#long = new LongPackets(memory, frames, pairs, address);
    this.#pool = frames.pool;
    this.#words = memory.words;
    this.#readsLongAt = memory.slot(address).at('readsLong');
    this.#readsLong = this.#words[this.#readsLongAt] === 1;
  }

  get expectsPackets(): boolean {
    return this.#expectsPackets;
  }

  /** Whether packets are read one at a time now. */
  get readsSingly(): boolean {
    return this.#singleReads > 0 && this.#outstanding === 0;
  }

  get isPolling(): boolean {
    return this.#isPolling;
  }

  /** Reads submitted whose completions were not received. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Completions received and not released. */
  get scanned(): number {
    return this.#scanned;
  }

  /** As `Receiver.receive`, without a call of the kernel. */
  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    if (this.#direct.held > 0) return this.#direct.receive(offset, bytes, max);
    if (this.#long.isOpen) return this.#long.take(offset, bytes, max);
    const ring = this.#ring;
    const frames = this.#frames;
    const { cq } = ring;
    const count = cq.peek(max);
    let packets = 0;
    let total = 0;
    for (; packets < count; packets++) {
      const slot = cq.slot(packets);
      const length = ring.doneResult(slot);
      if (ring.doneKind(slot) !== Kind.READ || !frames.isPacket(length)) break;
      const address = ring.doneAddress(slot);
      offset[packets] = frames.at + address + HEADROOM;
      bytes[packets] = length - frames.prefix;
      total += length - frames.prefix;
    }
    if (packets > 0) frames.received(packets, total);
    this.#outstanding -= packets;
    this.#filled += packets;
    this.#scanned = packets;
    return packets;
  }

  release(): void {
    if (this.#direct.inHand) this.#direct.release();
    else if (this.#long.isOpen && this.#long.release()) {
      this.#outstanding--;
      this.#filled++;
      this.#scanned = 1;
    }
    if (this.#scanned > 0) this.#ring.cq.release(this.#scanned);
    this.#scanned = 0;
  }

  /**
   * Publishes a batch of reads. One batch at a time, and none while a burst is in hand: the frame of a failed read must not
   * be in two completions.
   */
  submit(): void {
    if (this.#outstanding > 0 || this.#scanned > 0 || this.#direct.inHand) return;
    const pool = this.#pool;
    const { sq } = this.#ring;
    const count = sq.reserve(Math.min(this.#nextReads, pool.count));
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const offset = this.#frames.at + address + this.#frames.start;
      if (this.#readsLong) {
        this.#pairs.point(i, offset);
        this.#ring.readLong(i, this.#pairs.pair(i), address);
      } else this.#ring.read(i, offset, this.#frames.room, address);
      this.#frames.fill(address);
    }
    pool.remove(count);
    sq.commit(count);
    this.#outstanding = count;
    this.#filled = 0;
    this.#nextReads = Math.min(count * 4, BURST);
  }

  /** Publishes a poll, if the queue is idle and has none. @returns whether it did */
  poll(): boolean {
    if (this.#isPolling || this.#expectsPackets || this.#singleReads > 0 || this.#ring.sq.reserve(1) < 1) {
      return false;
    }
    this.#ring.poll(0);
    this.#ring.sq.commit(1);
    this.#isPolling = true;
    this.#pollIsStale = false;
    return true;
  }

  /** Reads a single packet directly. Two in a row are not single: then batches follow. @returns packets to receive, 0 or 1 */
  readOne(): number {
    const result = this.#direct.read();
    if (result > 0) {
      if (this.#frames.isLong(result)) this.#expectLong();
      this.#singleReads = MAX_SINGLE_READS;
      if (this.#found) this.#expectMore();
      this.#found = true;
      return this.#direct.held > 0 ? 1 : 0;
    }
    this.#found = false;
    if (result === 0) return 0; // no frame is free
    this.#singleReads = result === Errno.EAGAIN ? this.#singleReads - 1 : 0;
    if (this.#singleReads === 0) this.#direct.stop();
    return 0;
  }

  /** The same even if the queue would poll now. */
  readOneMore(): number {
    this.#singleReads = Math.max(this.#singleReads, 1);
    return this.readOne();
  }

  /** Takes the completion of a read, a word index. @returns false if it brings a packet, for {@link receive} */
  completed(slot: number): boolean {
    const frames = this.#frames;
    const result = this.#ring.doneResult(slot);
    if (frames.isPacket(result)) return false;
    const address = this.#ring.doneAddress(slot);
    if (frames.isLong(result)) {
      this.#expectLong();
      if (this.#openLong(address, result)) return false;
    }
    frames.unfilled(address, result);
    this.#outstanding--;
    if (result <= 0) this.#foundNothing();
    return true;
  }

  /** The poll has completed: packets are there, unless it is out of date. */
  polled(): void {
    this.#isPolling = false;
    if (!this.#pollIsStale) this.#expectsPackets = true;
  }

  #expectMore(): void {
    this.#singleReads = 0;
    this.#expectsPackets = true;
    this.#nextReads = MIN_READS;
  }

  #expectLong(): void {
    this.#readsLong = true;
    this.#words[this.#readsLongAt] = 1;
  }

  /** The oldest completion brings a long packet. False if it cannot be cut, or was read without a pair of buffers. */
  #openLong(address: number, length: number): boolean {
    if (this.#long.isOpen) return true;
    return this.#long.open(address, this.#pairs.find(this.#frames.at + address + this.#frames.start), length);
  }

  /** A read of a batch has found no packet: the next packet may be single. */
  #foundNothing(): void {
    this.#expectsPackets = false;
    this.#pollIsStale = true;
    this.#nextReads = Math.max(this.#filled, MIN_READS);
    this.#singleReads = this.#filled > 1 ? 0 : MAX_SINGLE_READS;
    this.#found = false;
  }
}
