/**
 * Pairs of buffers for reads of the tap (readv): a frame, and a buffer for the bytes that do not fit the frame. Without the
 * second, a packet longer than a frame would be cut off, and it cannot be read again: it has left the tap's queue.
 *
 * ```
 *   head     LONG_READS × two struct iovec: the frame's room, the rest of the buffer
 *            LONG_READS × Int32: pieces of the packet that were passed on, see long-packets.ts
 *   buffers  LONG_READS × HOST_BUFFER_BYTES: the frame's room again, for the whole packet in one piece, then the rest
 * ```
 *
 * A pair costs the kernel 32 copied bytes per read, and the memory is not registered with the ring: together a tenth of a
 * tap's packets per second (perf's `tap:receive-c`). So a ring uses pairs only where long packets are expected. Each
 * submitted read has a buffer of its own, since any read may bring a long packet. A buffer has no pages before its first.
 *
 * Allocates nothing. Worker only.
 */
import { addressOf } from '../../kernel/shim.ts';
import { HOST_BUFFER_BYTES, LONG_HEAD_BYTES, LONG_READS } from '../../memory/geometry.ts';
import { BURST, type QueueAddress } from '../../memory/layout.ts';
import { METADATA_BYTES } from '../../memory/metadata.ts';
import type { Memory } from '../../memory/shared.ts';
import { maxPacketBytes } from '../../net/packet-size.ts';

/** struct iovec: address and length, 64 bits each. */
const PAIR_BYTES = 32;
const PAIR_WORDS = PAIR_BYTES / 4;
/** The lower half of no frame's address. */
const NOWHERE = -1;

/** The longest IP packet, Ethernet header, two VLAN tags, the long tag, metadata, and a byte: a read that fills all was cut off. */
const MAX_LENGTH = 65_535 + 14 + 3 * 4 + METADATA_BYTES + 1;

export class ReadPairs {
  /** Offset in the shared memory of the first pair. */
  readonly at: number;
  readonly #words: Int32Array;
  /** The halves of the shared memory's address, and the offset from which on a sum carries into the upper half. */
  readonly #low: number;
  readonly #high: number;
  readonly #carryAt: number;

  constructor(memory: Memory, address: QueueAddress) {
    const { port, queue } = address;
    const { words, bytes, view, layout } = memory;
    const base = addressOf(bytes);
    const prefix = memory.slot(address).metadata === 1 ? METADATA_BYTES : 0;
    const room = maxPacketBytes(layout.geometry.frameSize) + prefix;
    this.at = layout.longPackets(port, queue);
    this.#words = words;
    this.#low = base | 0;
    this.#high = Math.floor(base / 2 ** 32);
    this.#carryAt = 2 ** 32 - (base >>> 0);
    for (let i = 0; i < LONG_READS; i++) {
      const pair = this.pair(i);
      view.setBigUint64(pair + 8, BigInt(room), true);
      view.setBigUint64(pair + 16, BigInt(base + this.buffer(i) + room), true);
      view.setBigUint64(pair + 24, BigInt(MAX_LENGTH - room), true);
    }
  }

  /** For a new queue: forgets the reads and the packets of an earlier one. */
  begin(): void {
    for (let i = 0; i < LONG_READS; i++) this.#words[(this.at >> 2) + i * PAIR_WORDS] = NOWHERE;
    this.#words.fill(0, this.passedOnAt(0), this.passedOnAt(LONG_READS));
  }

  /** Offset of the i-th pair. */
  pair(i: number): number {
    return this.at + i * PAIR_BYTES;
  }

  /** Sets the frame of the i-th pair, by the offset at which a packet begins. */
  point(i: number, offset: number): void {
    const words = this.#words;
    const word = (this.at >> 2) + i * PAIR_WORDS;
    words[word] = (this.#low + offset) | 0;
    words[word + 1] = offset >= this.#carryAt ? this.#high + 1 : this.#high;
  }

  /** Which pair of the last batch of reads has that offset; -1 none. */
  find(offset: number): number {
    const low = (this.#low + offset) | 0;
    for (let i = 0; i < BURST; i++) {
      if (this.#words[(this.at >> 2) + i * PAIR_WORDS] === low) return i;
    }
    return -1;
  }

  /** Offset of the i-th buffer. */
  buffer(i: number): number {
    return this.at + LONG_HEAD_BYTES + i * HOST_BUFFER_BYTES;
  }

  /** Index of the word that counts the pieces of the packet in the i-th buffer that were passed on. */
  passedOnAt(i: number): number {
    return (this.at + LONG_READS * PAIR_BYTES) / 4 + i;
  }

  /** Whether a read with this result was cut off. */
  isCutOff(result: number): boolean {
    return result >= MAX_LENGTH;
  }
}
