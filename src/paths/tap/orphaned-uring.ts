/**
 * The io_uring of a tap queue whose worker died, as its successor reads it out: see datapath/takeover.ts. Worker only.
 *
 * Another thread cannot submit to an io_uring, but it can read its rings. Received packets are in the completion ring,
 * unsent ones among the submission entries, and direct.ts keeps its results in the path slot. The dead worker may have
 * passed a frame on without releasing its entry here: the frame's owner shows that.
 */
import type { Shim } from '../../kernel/shim.ts';
import type { FramePool } from '../../memory/frames.ts';
import { HEADROOM, type PathId, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import type { OrphanedRing } from '../attached-path.ts';
import type { BurstArrays } from '../path.ts';
import { DIRECT_READ } from './direct.ts';
import { LongPackets } from './long-packets.ts';
import { ReadPairs } from './read-pairs.ts';
import { TapFrames } from './tap-frames.ts';
import { Kind, UringRing } from './uring.ts';
import { eachCompletion, eachUnsent, reclaimUnsent } from './uring-walk.ts';

export class OrphanedUring implements OrphanedRing {
  readonly rx = this;
  readonly tx = this;
  readonly path: PathId;
  readonly tag: number;
  readonly #ring: UringRing;
  readonly #frames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #long: LongPackets;
  readonly #words: Int32Array;
  readonly #stagedAt: number;
  readonly #readAddress: number;
  readonly #readResult: number;
  readonly #writeResult: number;
  /** Completions that the last receive read; -1 for a packet that was read directly. */
  #scanned = 0;

  constructor(shim: Shim, memory: Memory, pool: FramePool, address: QueueAddress) {
    const slot = memory.slot(address);
    this.path = address.path;
    this.#ring = new UringRing(shim, memory, address);
    this.#frames = new TapFrames(memory, pool, address);
    this.#pairs = new ReadPairs(memory, address);
    this.#long = new LongPackets(memory, this.#frames, this.#pairs, address);
    this.tag = this.#frames.tag;
    this.#words = memory.words;
    this.#stagedAt = slot.at('staged');
    this.#readAddress = slot.at('readAddress');
    this.#readResult = slot.at('readResult');
    this.#writeResult = slot.at('writeResult');
    this.#countWritten();
    this.#publishStaged();
  }

  ready(max: number): number {
    if (this.#words[this.#readResult]! > 0) return 1;
    this.#reap();
    return this.#ring.cq.peek(max);
  }

  receive({ offset, bytes }: BurstArrays, max: number): number {
    const ring = this.#ring;
    const frames = this.#frames;
    const result = this.#words[this.#readResult]!;
    if (result > 0) return this.#receiveHeld(offset, bytes, max, result);
    if (this.#long.isOpen) return this.#takeLong(offset, bytes, max);
    const { cq } = ring;
    const count = cq.peek(max);
    let packets = 0;
    let scanned = 0;
    for (; scanned < count; scanned++) {
      const slot = cq.slot(scanned);
      const length = ring.doneResult(slot);
      if (ring.doneKind(slot) !== Kind.READ || !frames.isPacket(length)) break;
      const address = ring.doneAddress(slot);
      if (frames.isFilling(address)) packets += this.#receive(offset, bytes, packets, address, length);
    }
    this.#scanned = scanned;
    return packets;
  }

  release(): void {
    if (this.#long.isOpen) {
      if (!this.#long.release()) return;
      if (this.#scanned === 0) this.#scanned = 1;
    }
    if (this.#scanned < 0) this.#words[this.#readResult] = 0;
    else if (this.#scanned > 0) this.#ring.cq.release(this.#scanned);
    this.#scanned = 0;
  }

  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    return reclaimUnsent(this.#ring, this.#frames, visit);
  }

  enumerate(visit: (address: number) => void): void {
    const mask = -this.#frames.pool.frameSize;
    eachCompletion(this.#ring, this.#frames, 0, (_, address) => visit(address & mask));
    eachUnsent(this.#ring, this.#frames, (_, address) => visit(address & mask));
    if (this.#isHeld()) visit(this.#words[this.#readAddress]!);
  }

  detach(): void {
    this.#ring.close();
  }

  /** Whether a packet was read directly and not passed on. A packet that could not be cut is already counted. */
  #isHeld(): boolean {
    return this.#words[this.#readResult]! > 0 && this.#frames.isFilling(this.#words[this.#readAddress]!);
  }

  #receiveHeld(offset: Int32Array, bytes: Int32Array, max: number, result: number): number {
    const address = this.#words[this.#readAddress]!;
    this.#scanned = -1;
    if (!this.#isHeld()) return 0;
    if (this.#frames.isPacket(result)) return this.#receive(offset, bytes, 0, address, result);
    if (!this.#long.isOpen && !this.#long.open(address, DIRECT_READ, result)) return 0;
    return this.#takeLong(offset, bytes, max);
  }

  /** Pieces without a free frame are lost: no frame is freed before everything is received. */
  #takeLong(offset: Int32Array, bytes: Int32Array, max: number): number {
    const count = this.#long.take(offset, bytes, max);
    if (count > 0) return count;
    this.#long.drop();
    if (this.#scanned === 0) this.#scanned = 1;
    return 0;
  }

  #receive(offset: Int32Array, bytes: Int32Array, i: number, address: number, length: number): 1 {
    const frames = this.#frames;
    const packetBytes = length - frames.prefix;
    offset[i] = frames.at + address + HEADROOM;
    bytes[i] = packetBytes;
    frames.received(1, packetBytes);
    return 1;
  }

  /** Takes the oldest completions, up to the first that brings a packet. */
  #reap(): void {
    const { cq } = this.#ring;
    while (cq.peek(1) === 1 && this.#take(cq.slot(0))) cq.release(1);
  }

  #openLong(address: number, length: number): boolean {
    if (this.#long.isOpen) return true;
    return this.#long.open(address, this.#pairs.find(this.#frames.at + address + this.#frames.start), length);
  }

  /** False if it brings a packet. */
  #take(slot: number): boolean {
    const ring = this.#ring;
    const frames = this.#frames;
    const kind = ring.doneKind(slot);
    const address = ring.doneAddress(slot);
    const result = ring.doneResult(slot);
    if (kind === Kind.READ) {
      if (frames.isPacket(result)) return false;
      if (!frames.isFilling(address)) return true;
      if (frames.isLong(result) && this.#openLong(address, result)) return false;
      frames.unfilled(address, result);
    } else if (kind === Kind.WRITE && frames.isSending(address)) frames.sent(address, result);
    return true;
  }

  /**
   * Counts a packet that was written directly just before the worker died. Its frame is in hand and in no ring, so the pool
   * frees it when it recovers.
   */
  #countWritten(): void {
    const ring = this.#ring;
    const words = this.#words;
    const result = words[this.#writeResult]!;
    if (result !== 0 && words[this.#stagedAt] === ((ring.sq.cursor + 1) | 0)) {
      const slot = ring.sq.slot(0);
      const address = ring.addressAt(slot);
      if (this.#frames.isSending(address)) {
        this.#frames.pool.setOwner(address, this.#frames.pool.hand);
        this.#frames.posted(1, ring.bytesAt(slot));
        this.#frames.countSent(result);
      }
      words[this.#stagedAt] = ring.sq.cursor;
    }
    words[this.#writeResult] = 0;
  }

  /** Publishes the staged packets, for {@link reclaimUnsent}: their verdict was given. */
  #publishStaged(): void {
    const ring = this.#ring;
    const { sq } = ring;
    let staged = (this.#words[this.#stagedAt]! - sq.cursor) | 0;
    if (staged < 0 || staged > sq.entries) staged = 0;
    for (let i = 0; i <= staged && i < sq.entries; i++) {
      const slot = sq.slot(i);
      if (ring.kindAt(slot) !== Kind.PUSHING) continue;
      // The owner is written before `staged`, and `staged` before the entry is settled.
      if (i === staged && !this.#frames.isSending(ring.addressAt(slot))) continue;
      ring.settle(slot);
      staged = Math.max(staged, i + 1);
    }
    if (staged === 0) return;
    let bytes = 0;
    for (let i = 0; i < staged; i++) bytes += ring.bytesAt(sq.slot(i));
    this.#words[this.#stagedAt] = (sq.cursor + staged) | 0; // this worker may die as well
    sq.commit(staged);
    this.#frames.posted(staged, bytes);
  }
}
