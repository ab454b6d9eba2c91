/**
 * Packets that a tap brings and that do not fit a frame, cut into frames that the device itself could have received.
 *
 * A linear packet of several TCP segments says nowhere how it was merged: each piece takes as much as the device's MTU
 * lets it. Its checksum is made anew for each, so it is to be right as it is, or known to be right: see `LongTag`. A packet
 * that is no TCP, or a fragment, or wrong, cannot be cut. One that fits a frame without the tag is no long packet at all.
 *
 * The frame that the packet begins in, and the entry of the ring that names it, stay until the last piece is handed on:
 * a worker that dies leaves all that its successor needs to go on from there.
 *
 * One packet at a time. Allocates nothing. Worker only.
 */
import { LongTag } from '../../kernel/programs.ts';
import { pathCounters, queueCounters } from '../../memory/counters.ts';
import { HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import { offloadWord, Segmentation } from '../../memory/offload.ts';
import { type RingOperations, ringOperationsOf } from '../../memory/ring-operations.ts';
import type { Memory } from '../../memory/shared.ts';
import { checksum } from '../../net/checksum.ts';
import { VLAN_TAG_BYTES } from '../../net/ethernet.ts';
import { Headers, pseudoSum } from '../../net/headers.ts';
import { Protocol } from '../../net/ip.ts';
import { Segmenter } from '../../offload/segment.ts';
import { SENT_HEADER } from '../packet-size.ts';
import type { ReadPairs } from './read-pairs.ts';
import type { TapFrames } from './tap-frames.ts';

const ADDRESSES = 12;

export class LongPackets {
  readonly #memory: Memory;
  readonly #ringOps: RingOperations;
  readonly #frames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #segmenter: Segmenter;
  readonly #headers = new Headers();
  readonly #maxPacketBytesAt: number;
  readonly #rxCut: number;
  readonly #noFrame: number;
  /** Address of the frame that the packet begins in; -1 if none is open. */
  #address = -1;
  #buffer = 0;
  #pieces = 0;
  /** Pieces handed on, and those that the last `take` wrote. */
  #handedOn = 0;
  #taken = 0;
  /** Of a packet that fits a frame: where it begins, and its bytes; else 0. */
  #at = 0;
  #whole = 0;

  constructor(memory: Memory, frames: TapFrames, pairs: ReadPairs, address: QueueAddress) {
    const { port, queue, path } = address;
    this.#memory = memory;
    this.#ringOps = ringOperationsOf(memory);
    this.#frames = frames;
    this.#pairs = pairs;
    this.#segmenter = new Segmenter(memory);
    this.#maxPacketBytesAt = memory.slot(address).at('maxPacketBytes');
    this.#rxCut = pathCounters(memory, port, queue, path).rxCut;
    this.#noFrame = queueCounters(memory, port, queue).dropNoFrame;
  }

  get isOpen(): boolean {
    return this.#address >= 0;
  }

  /**
   * Opens the packet of `length` bytes that read `i` put into the frame at `address`. Only if none is open.
   *
   * @returns false if it cannot be cut
   */
  open(address: number, i: number, length: number): boolean {
    if (i < 0 || this.#pairs.isCutOff(length)) return false;
    const { bytes, words } = this.#memory;
    const frames = this.#frames;
    const at = this.#pairs.buffer(i);
    const start = frames.at + address + HEADROOM;
    bytes.copyWithin(at, start, start + frames.room);
    this.#pieces = this.#cut(at, length);
    if (this.#pieces === 0) return false;
    this.#address = address;
    this.#buffer = i;
    this.#handedOn = words[this.#pairs.handedOn(i)]!;
    this.#taken = 0;
    return true;
  }

  /** Writes the next pieces, `max` at most and as many as frames are free, and counts them as received. */
  take(offset: Int32Array, bytes: Int32Array, max: number): number {
    const frames = this.#frames;
    const { pool } = frames;
    const count = Math.min(max, this.#pieces - this.#handedOn, pool.count);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(0);
      const target = frames.at + address + HEADROOM;
      const length = this.#write(this.#handedOn + i, target);
      frames.fill(address);
      pool.remove(1);
      offset[i] = target;
      bytes[i] = length;
      total += length;
    }
    this.#taken = count;
    if (count > 0) frames.received(count, total);
    const last = count > 0 && this.#handedOn + count === this.#pieces;
    if (last && this.#whole === 0) this.#memory.doubles[this.#rxCut]!++;
    return count;
  }

  /** The pieces of the last `take` were handed on. True if they were the last: then the packet's frame is free again. */
  release(): boolean {
    const { words } = this.#memory;
    const at = this.#pairs.handedOn(this.#buffer);
    this.#handedOn += this.#taken;
    this.#taken = 0;
    if (this.#handedOn < this.#pieces) {
      words[at] = this.#handedOn;
      return false;
    }
    this.#frames.pool.put(this.#address);
    words[at] = 0; // after that the packet is nobody's, and before its entry is
    this.#address = -1;
    return true;
  }

  /** Gives up what was not handed on of the packet, for want of frames: as one packet that was received. */
  drop(): void {
    const { words, doubles } = this.#memory;
    this.#frames.received(1, 0);
    doubles[this.#noFrame]!++;
    this.#frames.pool.put(this.#address);
    words[this.#pairs.handedOn(this.#buffer)] = 0;
    this.#address = -1;
  }

  #write(i: number, target: number): number {
    if (this.#whole === 0) return this.#segmenter.write(i, target);
    this.#memory.bytes.copyWithin(target, this.#at, this.#at + this.#whole);
    return this.#whole;
  }

  /** Into how many pieces the packet at `at` is to be cut, 0 if it cannot be. */
  #cut(at: number, length: number): number {
    const { view, bytes, words } = this.#memory;
    const tag = view.getUint16(at + ADDRESSES) === LongTag.TYPE ? view.getUint16(at + ADDRESSES + 2) : 0;
    const verified = tag === LongTag.VERIFIED;
    let start = at;
    if (verified || tag === LongTag.UNVERIFIED) {
      start += VLAN_TAG_BYTES;
      bytes.copyWithin(start, at, at + ADDRESSES);
    }
    const count = length - (start - at);
    const { room } = this.#frames;
    this.#at = start;
    this.#whole = count < room ? count : 0;
    if (this.#whole > 0) return 1;
    const headers = this.#headers;
    if (!headers.parse(view, start, count) || headers.protocol !== Protocol.TCP) return 0;
    if (!(verified && headers.plain) && !this.#isRight(start)) return 0;
    // As much IP as the MTU lets it; a tag beyond the first is part of that.
    const link = Math.min(headers.l3, SENT_HEADER);
    const most = Math.min(words[this.#maxPacketBytesAt]! - SENT_HEADER + link, room - 1);
    const size = most - headers.payload;
    if (size <= 0) return 0;
    const kind = headers.version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;
    return this.#segmenter.begin(start, count, offloadWord(size, kind, true), most);
  }

  /** Whether the checksum is that of the addresses in the IP header, and right. */
  #isRight(start: number): boolean {
    const { l4, end } = this.#headers;
    const pseudo = pseudoSum(this.#memory.view, start, this.#headers) + end - l4;
    return checksum(pseudo + this.#ringOps.sum(start + l4, end - l4)) === 0;
  }
}
