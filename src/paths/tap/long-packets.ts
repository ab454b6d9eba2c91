/**
 * Packets from a tap that do not fit a frame, cut into pieces that the device itself could have received.
 *
 * A linear packet of several TCP segments does not record their size, so each piece is as long as the device's MTU allows.
 * Each piece gets a new checksum, so the packet's own must be right, or known to be right: see `LongTag`. A fragment, or a
 * packet that is not TCP or has a wrong checksum, cannot be cut. A packet that fits a frame without the tag is not long.
 *
 * The frame in which the packet begins, and its entry in the ring, stay until the last piece is passed on. So if the worker
 * dies, its successor can continue.
 *
 * One packet at a time. Allocates nothing. Worker only.
 */
import { BARE_TAG } from '../../kernel/metadata-programs.ts';
import { LongTag } from '../../kernel/programs.ts';
import { pathCounters, queueCounters } from '../../memory/counters.ts';
import { HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import { METADATA_VERIFIED, MetadataField } from '../../memory/metadata.ts';
import { offloadWord, Segmentation } from '../../memory/offload.ts';
import { type RingOperations, ringOperationsOf } from '../../memory/ring-operations.ts';
import type { Memory } from '../../memory/shared.ts';
import { checksum } from '../../net/checksum.ts';
import { VLAN_TAG_BYTES } from '../../net/ethernet.ts';
import { Headers, pseudoSum } from '../../net/headers.ts';
import { Protocol } from '../../net/ip.ts';
import { maxPacketBytes, SENT_HEADER } from '../../net/packet-size.ts';
import { Segmenter } from '../../offload/segment.ts';
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
  /** Address of the frame in which the packet begins; -1 if no packet is open. */
  #address = -1;
  #buffer = 0;
  #pieces = 0;
  /** Pieces passed on, and pieces that the last `take` wrote. */
  #passedOn = 0;
  #taken = 0;
  /** Offset and bytes of a packet that fits a frame without the tag; else 0 bytes. */
  #at = 0;
  #whole = 0;
  /** Whether it has metadata, where others have: see `BARE_TAG`. */
  #hasMetadata = false;

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
    const start = frames.at + address + frames.start;
    bytes.copyWithin(at, start, start + frames.room);
    this.#pieces = frames.prefix > 0 ? this.#cutPrefixed(at, length) : this.#cut(at, length);
    if (this.#pieces === 0) return false;
    this.#address = address;
    this.#buffer = i;
    this.#passedOn = words[this.#pairs.passedOnAt(i)]!;
    this.#taken = 0;
    return true;
  }

  /** Writes the next pieces, at most `max` and only into free frames, and counts them as received. */
  take(offset: Int32Array, bytes: Int32Array, max: number): number {
    const frames = this.#frames;
    const { pool } = frames;
    const count = Math.min(max, this.#pieces - this.#passedOn, pool.count);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(0);
      const target = frames.at + address + HEADROOM;
      const length = this.#write(this.#passedOn + i, target);
      frames.fill(address);
      pool.remove(1);
      offset[i] = target;
      bytes[i] = length;
      total += length;
    }
    this.#taken = count;
    if (count > 0) frames.received(count, total);
    const last = count > 0 && this.#passedOn + count === this.#pieces;
    if (last && this.#whole === 0) this.#memory.doubles[this.#rxCut]!++;
    return count;
  }

  /** The pieces of the last `take` were passed on. True if they were the last: the packet's frame is then free. */
  release(): boolean {
    const { words } = this.#memory;
    const at = this.#pairs.passedOnAt(this.#buffer);
    this.#passedOn += this.#taken;
    this.#taken = 0;
    if (this.#passedOn < this.#pieces) {
      words[at] = this.#passedOn;
      return false;
    }
    this.#frames.pool.put(this.#address);
    words[at] = 0; // after the frame is freed, and before the entry is
    this.#address = -1;
    return true;
  }

  /** Drops the pieces that were not passed on, because no frame is free. They count as one received packet. */
  drop(): void {
    const { words, doubles } = this.#memory;
    this.#frames.received(1, 0);
    doubles[this.#noFrame]!++;
    this.#frames.pool.put(this.#address);
    words[this.#pairs.passedOnAt(this.#buffer)] = 0;
    this.#address = -1;
  }

  #write(i: number, target: number): number {
    const { prefix } = this.#frames;
    if (prefix > 0) {
      const from = this.#pairs.buffer(this.#buffer);
      const { bytes, view } = this.#memory;
      if (this.#hasMetadata) bytes.copyWithin(target - prefix, from, from + prefix);
      else view.setUint16(target - prefix + MetadataField.MARK, 0, true);
    }
    if (this.#whole === 0) return this.#segmenter.write(i, target);
    this.#memory.bytes.copyWithin(target, this.#at, this.#at + this.#whole);
    return this.#whole;
  }

  /** The tag behind the first 12 bytes, if it may be the long one; else 0. */
  #tagAt(at: number): number {
    const { view } = this.#memory;
    return view.getUint16(at + ADDRESSES) === LongTag.TYPE ? view.getUint16(at + ADDRESSES + 2) : 0;
  }

  /** The same with metadata before the packet: the tag is among it, and not in the packet. */
  #cutPrefixed(at: number, length: number): number {
    const { prefix } = this.#frames;
    const tag = this.#tagAt(at);
    const bare = tag - BARE_TAG;
    this.#hasMetadata = bare !== 0 && bare !== METADATA_VERIFIED;
    if (this.#hasMetadata) return this.#cutAt(at + prefix, length - prefix, tag === LongTag.VERIFIED);
    return this.#cutTagged(at, length, bare === METADATA_VERIFIED);
  }

  /** The number of pieces that the packet at `at` is cut into; 0 if it cannot be cut. */
  #cut(at: number, length: number): number {
    const tag = this.#tagAt(at);
    const verified = tag === LongTag.VERIFIED;
    if (!verified && tag !== LongTag.UNVERIFIED) return this.#cutAt(at, length, false);
    return this.#cutTagged(at, length, verified);
  }

  /** The same of a packet with a tag of ours in its bytes. */
  #cutTagged(at: number, length: number, verified: boolean): number {
    const start = at + VLAN_TAG_BYTES;
    this.#memory.bytes.copyWithin(start, at, at + ADDRESSES);
    return this.#cutAt(start, length - VLAN_TAG_BYTES, verified);
  }

  #cutAt(start: number, count: number, verified: boolean): number {
    const { view, words } = this.#memory;
    const room = maxPacketBytes(this.#memory.layout.geometry.frameSize);
    this.#at = start;
    this.#whole = count < room ? count : 0;
    if (this.#whole > 0) return 1;
    const headers = this.#headers;
    if (!headers.parse(view, start, count) || headers.protocol !== Protocol.TCP) return 0;
    if (!(verified && headers.plain) && !this.#isRight(start)) return 0;
    // As many bytes of IP as the MTU allows. A second VLAN tag counts as IP.
    const link = Math.min(headers.l3, SENT_HEADER);
    const most = Math.min(words[this.#maxPacketBytesAt]! - SENT_HEADER + link, room - 1);
    const size = most - headers.payload;
    if (size <= 0) return 0;
    const kind = headers.version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;
    return this.#segmenter.begin(start, count, offloadWord(size, kind, true), most);
  }

  /** Whether the checksum is right for the addresses in the IP header. */
  #isRight(start: number): boolean {
    const { l4, end } = this.#headers;
    const pseudo = pseudoSum(this.#memory.view, start, this.#headers) + end - l4;
    return checksum(pseudo + this.#ringOps.sum(start + l4, end - l4)) === 0;
  }
}
