/**
 * Rings of packet copies, for the application or for a port of another memory. A slot has a head of four words and the
 * packet's bytes, so neither side waits for the other or keeps a frame of its pool. One sender, one receiver.
 */
import { handoffMeta, handoffPath } from './bit-fields.ts';
import type { PathId } from './layout.ts';
import { Consumer, Producer, placeAt } from './ring.ts';
import type { Memory } from './shared.ts';

/** A slot's head: four words (length, meta, hash, spare). */
export const COPY_HEAD = 16;

/** The sending end: copies from any memory into the ring's. Belongs to one worker thread. */
export class CopySender {
  /** The longest packet that fits. */
  readonly maxPacketBytes: number;
  readonly #ring: Producer;
  readonly #to: Memory;
  readonly #from: Memory;
  #made = false;

  /** @param at byte offset of the ring in `to`; `from` is the memory of the packets */
  constructor(to: Memory, at: number, entries: number, from: Memory) {
    this.maxPacketBytes = to.layout.copyBytes - COPY_HEAD;
    this.#ring = new Producer(to.words, placeAt(at, entries, to.layout.copyBytes >> 2));
    this.#to = to;
    this.#from = from;
  }

  /**
   * Makes a copy and publishes it at once, so that a worker's end loses none: 7 ns, and 50 ns for the copy. False if there
   * is no room, or the packet is too long.
   */
  push(offset: number, bytes: number, kind: number, path: number, hash: number): boolean {
    if (bytes > this.maxPacketBytes || this.#ring.reserve(1) < 1) return false;
    const { words, bytes: target } = this.#to;
    const slot = this.#ring.slot(0);
    words[slot] = bytes;
    words[slot + 1] = handoffMeta(kind, path);
    words[slot + 2] = hash;
    const at = (slot << 2) + COPY_HEAD;
    if (this.#to === this.#from) target.copyWithin(at, offset, offset + bytes);
    else target.set(this.#from.bytes.subarray(offset, offset + bytes), at);
    this.#ring.commit(1);
    this.#made = true;
    return true;
  }

  /** Whether any were made since the last call: then the caller wakes the receiver. */
  madeAny(): boolean {
    const any = this.#made;
    this.#made = false;
    return any;
  }
}

/** The receiving end. Belongs to one thread. */
export class CopyReceiver {
  readonly #ring: Consumer;
  readonly #words: Int32Array;

  constructor(memory: Memory, at: number, entries: number) {
    this.#ring = new Consumer(memory.words, placeAt(at, entries, memory.layout.copyBytes >> 2));
    this.#words = memory.words;
  }

  /** Copies that can be read, `max` at most. */
  ready(max: number): number {
    return this.#ring.peek(max);
  }

  /** Offset of the i-th copy's bytes. */
  offset(i: number): number {
    return (this.#ring.slot(i) << 2) + COPY_HEAD;
  }

  bytes(i: number): number {
    return this.#words[this.#ring.slot(i)]!;
  }

  /** For a delivery the port's number, for a relay the number of the port that sends it. */
  port(i: number): number {
    return this.#words[this.#ring.slot(i) + 1]! >>> 8;
  }

  path(i: number): PathId {
    return handoffPath(this.#words[this.#ring.slot(i) + 1]!);
  }

  hash(i: number): number {
    return this.#words[this.#ring.slot(i) + 2]!;
  }

  release(count: number): void {
    this.#ring.release(count);
  }
}
