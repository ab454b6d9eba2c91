/**
 * The frames and the counters of one tap queue. Worker only.
 *
 * The owner of a frame that the kernel fills or sends is the queue, `FILL | tag` or `TX | tag`, whether it is in the ring or
 * not. A frame with another owner was passed on.
 */
import { Errno } from '../../errors.ts';
import { MAX_WITH_METADATA } from '../../kernel/metadata-programs.ts';
import { FrameOwner, ownerTag } from '../../memory/bit-fields.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../../memory/counters.ts';
import type { FramePool } from '../../memory/frames.ts';
import { HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import { METADATA_BYTES } from '../../memory/metadata.ts';
import type { Memory } from '../../memory/shared.ts';
import { VLAN_TAG_BYTES } from '../../net/ethernet.ts';
import { maxPacketBytes } from '../../net/packet-size.ts';

export class TapFrames {
  readonly tag: number;
  readonly pool: FramePool;
  /** Offset of the frames in the shared memory. */
  readonly at: number;
  /** Where a read begins in a frame, and its bytes at most. A read that fills all of them brings a long packet. */
  readonly start: number;
  readonly room: number;
  /** Bytes of metadata before each packet that a read brings, or 0. */
  readonly prefix: number;
  /** Bytes of a read from which on it may bring a packet that is not as the others: longer than a frame, or without metadata. */
  readonly longFrom: number;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;

  constructor(memory: Memory, pool: FramePool, { port, queue, path }: QueueAddress) {
    this.tag = ownerTag(queue, port, path);
    this.pool = pool;
    this.at = memory.layout.frames;
    this.prefix = memory.slot({ port, queue, path }).metadata === 1 ? METADATA_BYTES : 0;
    this.start = HEADROOM - this.prefix;
    this.room = maxPacketBytes(memory.layout.geometry.frameSize) + this.prefix;
    this.longFrom =
      this.prefix === 0 ? this.room : Math.min(this.room, MAX_WITH_METADATA + VLAN_TAG_BYTES + 1);
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
  }

  /** Whether the frame is in this queue, to be filled. */
  isFilling(address: number): boolean {
    return this.pool.ownerOf(address) === (FrameOwner.FILL | this.tag);
  }

  /** Whether the frame is in this queue, to be sent. */
  isSending(address: number): boolean {
    return this.pool.ownerOf(address) === (FrameOwner.TX | this.tag);
  }

  /** Gives the frame to the queue, to be filled. It leaves the pool with the next `remove`. */
  fill(address: number): void {
    this.pool.setOwner(address, FrameOwner.FILL | this.tag);
  }

  send(address: number): void {
    this.pool.setOwner(address, FrameOwner.TX | this.tag);
  }

  /** Frees the frame of a write that ended with this result. */
  sent(address: number, result: number): void {
    this.pool.put(address);
    this.countSent(result);
  }

  countSent(result: number): void {
    this.#doubles[result < 0 ? this.#counter.txErrors : this.#counter.txPackets]!++;
  }

  /** Whether a read with this result brought a packet that fits its frame. */
  isPacket(result: number): boolean {
    return result > this.prefix && result < this.longFrom;
  }

  /** Whether it brought a longer one: see long-packets.ts. */
  isLong(result: number): boolean {
    return result >= this.longFrom;
  }

  /** Frees the frame of a read without a usable packet: none was there, or it cannot be cut, or the device is gone. */
  unfilled(address: number, result: number): void {
    this.pool.put(address);
    this.countUnfilled(result);
  }

  countUnfilled(result: number): void {
    if (this.isLong(result)) this.#doubles[this.#counter.rxTooLong]!++;
    else if (result !== Errno.EAGAIN && result !== Errno.ECANCELED) {
      this.#doubles[this.#counter.rxErrors]!++;
    }
  }

  received(packets: number, bytes: number): void {
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += bytes;
  }

  posted(packets: number, bytes: number): void {
    this.#doubles[this.#counter.txPosted]! += packets;
    this.#doubles[this.#counter.txBytes]! += bytes;
  }

  rescued(packets: number): void {
    this.#doubles[this.#counter.txRescued]! += packets;
  }

  /** A system call. */
  kicked(): void {
    this.#doubles[this.#counter.kicks]!++;
  }

  kickFailed(): void {
    this.#doubles[this.#counter.kickErrors]!++;
  }
}
