/**
 * One packet at a time through a tap, with read(2) and write(2): the fast way for a single packet. Worker only.
 *
 * An io_uring costs less for a burst, but a third more for one packet: entries, completions, and a poll that the sender of
 * the next packet has to complete.
 *
 * The shim writes the result of a call to the path slot before it returns, since the worker may end right after:
 *
 * ```
 *   readAddress    the frame that packets are read into
 *   readResult     of the last read into it: > 0 while the frame holds a packet
 *   writeResult    of a write of the staged entry: not 0 if it was sent, and must not be sent again
 * ```
 */
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { BURST, HEADROOM, type QueueAddress } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { LongPackets } from './long-packets.ts';
import type { ReadPairs } from './read-pairs.ts';
import type { TapFrames } from './tap-frames.ts';

/** Index of the pair in read-pairs.ts for direct reads. The ring uses those before it. */
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
   * Address and bytes of the shared memory, and an array that keeps the memory alive. In a tuple, so that V8 keeps the
   * numbers as heap objects: from a double field it would allocate a new one, 16 bytes, for each call.
   */
  readonly #base: readonly [address: number, room: number, bytes: Uint8Array];
  readonly #readAddress: number;
  readonly #readResult: number;
  readonly #writeResult: number;
  /** The frame that packets are read into; -1 if none. */
  #frame = -1;
  /** Bytes of the packet in it; 0 if none. */
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
    this.#base = [addressOf(memory.bytes), memory.bytes.byteLength, memory.bytes];
    this.#readAddress = slot.at('readAddress');
    this.#readResult = slot.at('readResult');
    this.#writeResult = slot.at('writeResult');
    this.#words[this.#readResult] = 0;
    this.#words[this.#writeResult] = 0;
  }

  /** Bytes of the packet that was read and waits to be received; 0 if none. */
  get held(): number {
    return this.#held;
  }

  /** Whether a packet was received and not released. */
  get inHand(): boolean {
    return this.#inHand;
  }

  /** The frame that waits for a packet, or holds one that was not received; -1 if none. */
  get frame(): number {
    return this.#frame;
  }

  /** Reads a packet. A count of bytes, or a negative errno, or 0 if no frame is free. */
  read(): number {
    if (this.#frame < 0 && !this.#take()) return 0;
    this.#frames.kicked();
    const result = this.#shim.readNoted(
      this.#fd,
      this.#base[0],
      this.#base[1],
      this.#pair,
      4 * this.#readResult,
    );
    if (this.#frames.isPacket(result) || this.#openLong(result)) this.#held = result;
    else this.#frames.countUnfilled(result);
    return result;
  }

  /** Puts the held packet into the arrays, or as many pieces of a long one as fit. */
  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    if (this.#long.isOpen) {
      const count = this.#long.take(offset, bytes, max);
      this.#inHand = count > 0;
      return count;
    }
    const frames = this.#frames;
    const length = this.#held - frames.prefix;
    offset[0] = frames.at + this.#frame + HEADROOM;
    bytes[0] = length;
    frames.received(1, length);
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

  /** Frees the frame that waits for a packet. */
  stop(): void {
    if (this.#frame < 0) return;
    this.#frames.pool.put(this.#frame);
    this.#frame = -1;
  }

  /** Sends the packet at `address`, the only staged one. A count, or a negative errno. */
  write(address: number, bytes: number): number {
    const at = this.#frames.at + address;
    this.#frames.kicked();
    return this.#shim.writeNoted(this.#fd, this.#base[0], this.#base[1], at, bytes, 4 * this.#writeResult);
  }

  /** The written packet is no longer staged. */
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
    this.#pairs.point(DIRECT_READ, this.#frames.at + address + this.#frames.start);
    this.#frame = address;
    return true;
  }

  #openLong(length: number): boolean {
    return this.#frames.isLong(length) && this.#long.open(this.#frame, DIRECT_READ, length);
  }
}
