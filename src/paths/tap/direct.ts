/**
 * One packet at a time through a tap, by read(2) and write(2): the quick way for a packet that comes alone. Worker only.
 *
 * An io_uring does a burst for less, but one packet for a third more: entries, completions, and a question whether
 * there are packets that the sender of the next one has to answer.
 *
 * What a call did is noted in shared memory before it returns, since the worker may be ended as soon as it has:
 *
 * ```
 *   readAddress    the frame that packets are read into
 *   readResult     of the last read into it: > 0 it holds a packet, until all is done with that
 *   writeResult    of a write of the entry that is staged: not 0, it is sent and need not be sent again
 * ```
 */
import { addressOf, type Pointer, type Shim } from '../../kernel/shim.ts';
import { BURST, HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { LongPackets } from './long-packets.ts';
import type { ReadPairs } from './read-pairs.ts';
import type { TapFrames } from './tap-frames.ts';

/** Of the pairs in read-pairs.ts: those before it are the ring's. */
export const DIRECT_READ = BURST;

export class DirectTap {
  readonly #shim: Shim;
  readonly #frames: TapFrames;
  readonly #pairs: ReadPairs;
  readonly #pair: number;
  readonly #long: LongPackets;
  readonly #words: Int32Array;
  readonly #fd: number;
  /**
   * Address of the shared memory, and what keeps it alive. Together, so that V8 has the number as an object already: it
   * makes a new one, 16 bytes, whenever it hands over a number that it keeps as such.
   */
  readonly #base: readonly [address: Pointer, bytes: Uint8Array];
  readonly #readAddress: number;
  readonly #readResult: number;
  readonly #writeResult: number;
  /** The frame that packets are read into, -1 if none is. */
  #frame = -1;
  /** Bytes of the packet that was read into it, 0 if none was. */
  #held = 0;
  #inHand = false;

  constructor(shim: Shim, memory: Memory, frames: TapFrames, pairs: ReadPairs, address: QueueAddress) {
    const slot = memory.slot(address);
    this.#shim = shim;
    this.#frames = frames;
    this.#pairs = pairs;
    this.#pair = pairs.pair(DIRECT_READ);
    this.#long = new LongPackets(memory, frames, pairs, address);
    this.#words = memory.words;
    this.#fd = slot.fd;
    this.#base = [addressOf(memory.bytes), memory.bytes];
    this.#readAddress = slot.at('readAddress');
    this.#readResult = slot.at('readResult');
    this.#writeResult = slot.at('writeResult');
    this.#words[this.#readResult] = 0;
    this.#words[this.#writeResult] = 0;
  }

  /** Bytes of the packet that was read and waits to be received, 0 if there is none. */
  get held(): number {
    return this.#held;
  }

  /** Whether a packet was received and not released. */
  get inHand(): boolean {
    return this.#inHand;
  }

  /** The frame that waits for a packet, or holds one that was not received; -1 if there is none. */
  get frame(): number {
    return this.#frame;
  }

  /** Reads a packet if there is one, and if a frame is free. A count of bytes, or negative errno, or 0 without a frame. */
  read(): number {
    if (this.#frame < 0 && !this.#take()) return 0;
    this.#frames.kicked();
    const result = this.#shim.readNoted(this.#fd, this.#base[0], this.#pair, 4 * this.#readResult);
    if (this.#frames.isPacket(result) || this.#openLong(result)) this.#held = result;
    else this.#frames.countUnfilled(result);
    return result;
  }

  /** The packet that is held goes into the first place of the arrays; of a long one, as many pieces as there is room for. */
  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    if (this.#long.isOpen) {
      const count = this.#long.take(offset, bytes, max);
      this.#inHand = count > 0;
      return count;
    }
    offset[0] = this.#frames.at + this.#frame + HEADROOM;
    bytes[0] = this.#held;
    this.#frames.received(1, this.#held);
    this.#frame = -1;
    this.#held = 0;
    this.#inHand = true;
    return 1;
  }

  release(): void {
    this.#inHand = false;
    if (this.#long.isOpen) {
      if (!this.#long.release()) return;
      this.#frame = -1;
      this.#held = 0;
    }
    this.#words[this.#readResult] = 0;
  }

  /** Puts the frame back that waits for a packet. */
  stop(): void {
    if (this.#frame < 0) return;
    this.#frames.pool.put(this.#frame);
    this.#frame = -1;
  }

  /** Sends the packet at `address`, the only one that is staged. A count, or negative errno. */
  write(address: number, bytes: number): number {
    const at = this.#frames.at + address;
    this.#frames.kicked();
    return this.#shim.writeNoted(this.#fd, this.#base[0], at, bytes, 4 * this.#writeResult);
  }

  /** What was written is no longer staged. */
  written(): void {
    this.#words[this.#writeResult] = 0;
  }

  #take(): boolean {
    const { pool } = this.#frames;
    if (pool.count === 0) return false;
    const address = pool.peek(0);
    this.#frames.fill(address);
    pool.remove(1);
    this.#words[this.#readAddress] = address;
    this.#pairs.point(DIRECT_READ, this.#frames.at + address + HEADROOM);
    this.#frame = address;
    return true;
  }

  #openLong(length: number): boolean {
    return this.#frames.isLong(length) && this.#long.open(this.#frame, DIRECT_READ, length);
  }
}
