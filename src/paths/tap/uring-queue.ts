/**
 * A tap queue driven through io_uring. Worker only.
 *
 * ```
 *   transmit    submission entries: a write for each packet, then reads, as many as packets may be there
 *   receive     completions of the reads, a frame each
 *   complete    completions of the writes, in the same ring
 * ```
 *
 * **Bursts.** One io_uring_enter per burst submits the last burst's writes and the next one's reads; both are done
 * when it returns, the reads without a packet with EAGAIN. So frames wait for packets on the pool's own stack.
 *
 * **Single packets.** When a lot of reads has brought one packet or none, packets are looked for one at a time and
 * without the ring, {@link DirectTap}, until two come in a row; and a packet that is alone goes out that way.
 *
 * **Long packets.** A packet that does not fit its frame is received in pieces, {@link LongPackets}, and its completion
 * released with the last of them. Reads that can take one cost more: so a lot of reads can where such packets are to be
 * expected, and else from the first one on that has come. That one is lost, with those of its lot.
 *
 * **Silence.** After {@link LOOKS} looks without a packet, the queue asks to be told (IORING_OP_POLL_ADD), and reads
 * no more until the kernel raises a flag in shared memory: an idle queue makes no system call.
 *
 * When a worker dies its ring is of no use to another thread: see uring-remains.ts for what its successor does.
 * Completions of writes are released before their frames can be used again, so that each entry there still tells
 * the truth.
 */
import { Errno } from '../../errors.ts';
import type { Shim } from '../../kernel/shim.ts';
import type { FramePool, PathLedger } from '../../memory/frames.ts';
import { BURST, HEADROOM, type PathId, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { PathQueue, Receiver, Transmitter } from '../path.ts';
import { SegmentSender } from '../segments.ts';
import { Stall } from '../stall.ts';
import { DirectTap } from './direct.ts';
import { LongPackets } from './long-packets.ts';
import { ReadPairs } from './read-pairs.ts';
import { TapFrames } from './tap-frames.ts';
import { isBenign, Kind, UringRing } from './uring.ts';
import { eachCompletion, eachUnsent, reclaimUnsent } from './uring-walk.ts';

/** Reads asked for when hardly anything came last time: one that finds nothing costs a quarter of one that does. */
const MIN_READS = 4;

/**
 * Looks for a single packet, a round each, before the kernel is asked to tell: some 25 µs, in which whoever has an
 * answer sends the next question.
 */
const LOOKS = 64;

export class UringQueue implements PathQueue, Receiver, Transmitter {
  readonly rx: Receiver = this;
  readonly tx: Transmitter = this;
  readonly path: PathId;
  readonly tag: number;
  /** The tap itself: poll(2) sees at once what is there, also between two looks at the ring. */
  readonly fd: number;
  backlog = false;

  readonly #ring: UringRing;
  readonly #direct: DirectTap;
  readonly #frames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #long: LongPackets;
  readonly #readsLongAt: number;
  #readsLong: boolean;
  readonly #words: Int32Array;
  readonly #pool: FramePool;
  readonly #stagedAt: number;
  readonly #segments: SegmentSender | undefined;
  readonly #stall: Stall;
  /** Completions looked at by the last receive, given back by release: reads that brought a packet, all of them. */
  #scanned = 0;
  #writes = 0;
  #completed = 0;
  #staged = 0;
  #stagedBytes = 0;
  /** Reads submitted whose completions have not been looked at, and how many of the same lot have brought packets. */
  #asked = 0;
  #brought = 0;
  #nextReads = MIN_READS;
  /** Whether there may be packets for a lot of reads, as far as is known. */
  #lowOnFrames = false;
  /** Whether the kernel will tell of packets. */
  #armed = false;
  /** Whether a read has found nothing since it was asked to tell: then what it tells is old. */
  #dry = false;
  /** Looks for a single packet that are left, and whether the last one found one. */
  #looks = 0;
  #found = false;

  private constructor(shim: Shim, ring: UringRing, memory: Memory, pool: FramePool, address: QueueAddress) {
    const { words } = memory;
    const slot = memory.slot(address);
    this.path = address.path;
    this.fd = slot.fd;
    this.#ring = ring;
    this.#frames = new TapFrames(memory, pool, address);
    this.tag = this.#frames.tag;
    this.#pairs = new ReadPairs(memory, address);
    this.#pairs.begin();
    this.#long = new LongPackets(memory, this.#frames, this.#pairs, address);
    this.#direct = new DirectTap(shim, memory, this.#frames, this.#pairs, address);
    this.#words = words;
    this.#pool = pool;
    this.#stagedAt = slot.at('staged');
    this.#readsLongAt = slot.at('readsLong');
    this.#readsLong = words[this.#readsLongAt] === 1;
    this.#segments = SegmentSender.of(shim, memory, address);
    this.#stall = new Stall(shim.millis);
  }

  /** Opens a ring for the calling thread; the negative errno where the kernel refuses io_uring. */
  static open(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress): UringQueue | number {
    const ring = UringRing.open(shim, memory, address);
    if (typeof ring === 'number') return ring;
    const opened = new UringQueue(shim, ring, memory, pool, address);
    opened.flush();
    return opened;
  }

  ready(max: number): number {
    if (this.#direct.held > 0) return 1;
    this.#reap();
    const { cq, calls } = this.#ring;
    const pending = cq.peek(max);
    if (pending > 0) return pending;
    if (!calls) {
      if (this.#looks > 0 && this.#asked === 0 && !this.backlog) return this.#look();
      if (!this.#lowOnFrames) return 0;
    }
    this.#publish();
    this.#ask();
    if (!calls && this.#asked === 0 && !this.backlog) return 0; // no frame is free
    this.#enter();
    this.#reap();
    return cq.peek(max);
  }

  /**
   * What a lot of reads did not find was not there when it was submitted, at the end of the last round: packets may have
   * come since. So unless the kernel is to tell, it takes another look.
   */
  isEmpty(): boolean {
    if (this.ready(1) > 0) return false;
    if (this.#armed && !this.backlog) return true;
    this.#looks = Math.max(this.#looks, 1);
    return this.#look() === 0;
  }

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
      offset[packets] = frames.at + ring.doneAddress(slot) + HEADROOM;
      bytes[packets] = length;
      total += length;
    }
    if (packets > 0) frames.received(packets, total);
    this.#asked -= packets;
    this.#brought += packets;
    this.#scanned = packets;
    return packets;
  }

  release(): void {
    if (this.#direct.inHand) this.#direct.release();
    else if (this.#long.isOpen && this.#long.release()) {
      this.#asked--;
      this.#brought++;
      this.#scanned = 1;
    }
    if (this.#scanned > 0) this.#ring.cq.release(this.#scanned);
    this.#scanned = 0;
  }

  /** One entry is kept for the question whether there are packets. */
  room(wanted: number): number {
    return this.#ring.sq.reserve(wanted + this.#staged + 1) - this.#staged - 1;
  }

  /** A worker that dies takes nothing along: the mark says what is staged, and an entry that it is about to be. */
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
    if (this.#staged === 1 && !this.backlog && !this.#lowOnFrames) this.#writeDirectly();
    else this.#publish();
    if (!this.#armed && !this.#lowOnFrames && this.#looks === 0 && this.#ring.sq.reserve(1) === 1) {
      this.#ring.poll(0);
      this.#ring.sq.commit(1);
      this.#armed = true;
      this.#dry = false;
      this.backlog = true;
    }
    if (!this.backlog) return 0;
    if (this.#lowOnFrames) this.#ask();
    return this.#enter();
  }

  complete(): void {
    this.#reap();
  }

  /** Nothing to do: frames wait on the stack. */
  refill(): void {}

  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.#publish();
    const packets = reclaimUnsent(this.#ring, this.#frames, visit);
    this.#completed += packets;
    return packets;
  }

  ledger(): PathLedger {
    const waiting = { rx: 0, completing: 0 };
    eachCompletion(this.#ring, this.#frames, this.#scanned, (kind) => {
      waiting[kind]++;
    });
    const single = this.#direct.frame < 0 ? 0 : 1;
    const held = this.#direct.held > 0 ? 1 : 0;
    return {
      fill: this.#asked - waiting.rx + single - held,
      rx: waiting.rx + held,
      tx: this.#writes + this.#staged - this.#completed - waiting.completing,
      completing: waiting.completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    const mask = -this.#pool.frameSize;
    const ring = this.#ring;
    eachCompletion(ring, this.#frames, this.#scanned, (_, address) => visit(address & mask));
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

  /** Sends the one packet that is staged, behind all that was published before: a write is done when it is submitted. */
  #writeDirectly(): void {
    const { sq } = this.#ring;
    const address = this.#ring.addressAt(sq.slot(0));
    const result = this.#direct.write(address, this.#stagedBytes);
    this.#frames.sent(address, result);
    this.#frames.posted(1, this.#stagedBytes);
    this.#staged = 0;
    this.#stagedBytes = 0;
    this.#words[this.#stagedAt] = sq.cursor;
    this.#direct.written(); // after the mark: nothing is staged that it could be about
  }

  /** Looks for a single packet. Two in a row are no single ones: then lots of reads follow. */
  #look(): number {
    const result = this.#direct.read();
    if (result > 0) {
      if (this.#frames.isLong(result)) this.#expectLong();
      this.#looks = LOOKS;
      if (this.#found) this.#expectMore();
      this.#found = true;
      return this.#direct.held > 0 ? 1 : 0;
    }
    this.#found = false;
    if (result === 0) return 0; // no frame is free
    this.#looks = result === Errno.EAGAIN ? this.#looks - 1 : 0;
    if (this.#looks === 0) this.#direct.stop();
    return 0;
  }

  #expectMore(): void {
    this.#looks = 0;
    this.#lowOnFrames = true;
    this.#nextReads = MIN_READS;
  }

  /**
   * Publishes reads for the packets that may be there: one lot at a time, and none while a burst is in hand, since
   * the frame of a read that failed must not be in two completions.
   */
  #ask(): void {
    if (this.#asked > 0 || this.#scanned > 0 || this.#direct.inHand) return;
    const pool = this.#pool;
    const { sq } = this.#ring;
    const count = sq.reserve(Math.min(this.#nextReads, pool.count));
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const offset = this.#frames.at + address + HEADROOM;
      if (this.#readsLong) {
        this.#pairs.point(i, offset);
        this.#ring.readLong(i, this.#pairs.pair(i), address);
      } else this.#ring.read(i, offset, this.#frames.room, address);
      this.#frames.fill(address);
    }
    pool.remove(count);
    sq.commit(count);
    this.#asked = count;
    this.#brought = 0;
    this.#nextReads = Math.min(count * 4, BURST);
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
    const ring = this.#ring;
    const address = ring.doneAddress(slot);
    const result = ring.doneResult(slot);
    switch (ring.doneKind(slot)) {
      case Kind.WRITE:
        this.#frames.sent(address, result);
        this.#completed++;
        return true;
      case Kind.READ:
        if (this.#frames.isPacket(result)) return false;
        if (this.#frames.isLong(result)) {
          this.#expectLong();
          if (this.#openLong(address, result)) return false;
        }
        this.#frames.unfilled(address, result);
        this.#asked--;
        if (result <= 0) this.#foundNothing();
        return true;
      case Kind.POLL:
        this.#armed = false;
        if (!this.#dry) this.#lowOnFrames = true;
        return true;
      default:
        return true;
    }
  }

  #expectLong(): void {
    this.#readsLong = true;
    this.#words[this.#readsLongAt] = 1;
  }

  /** The oldest completion brings a long packet: false if that cannot be cut, or was read without a pair. */
  #openLong(address: number, length: number): boolean {
    if (this.#long.isOpen) return true;
    return this.#long.open(address, this.#pairs.find(this.#frames.at + address + HEADROOM), length);
  }

  /** A read of a lot has found no packet: what comes next may come alone. */
  #foundNothing(): void {
    this.#lowOnFrames = false;
    this.#dry = true;
    this.#nextReads = Math.max(this.#brought, MIN_READS);
    this.#looks = this.#brought > 1 ? 0 : LOOKS;
    this.#found = false;
  }
}
