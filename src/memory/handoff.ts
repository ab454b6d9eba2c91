/**
 * Handoff rings: packets from one worker to another, descriptors and never bytes. One sender, one receiver.
 *
 * A handoff ring leads from the worker that polled a packet to the one that owns its flow; or, for sending, to the one whose
 * path queue must be used.
 *
 * A sender may die between any two statements. It makes the ring the frame's owner before it publishes the entry, and the
 * receiver gives the frame another owner before it releases the entry. So a frame that a handoff ring owns and no published
 * entry names was never published: see `FrameOwners.recover`. A dead receiver's successor releases the entries that the
 * receiver had handled.
 */

import { handoffMeta, handoffOwner } from './bit-fields.ts';
import type { FramePool } from './frames.ts';
import { REPLAY_ENTRIES } from './geometry.ts';
import type { PathId } from './layout.ts';
import { Consumer, Producer, placeAt, type RingPlace } from './ring.ts';
import { keepUnhandled } from './ring-recovery.ts';
import type { Memory } from './shared.ts';

const ENTRY_WORDS = 4;

/** The handoff ring of a worker to itself is its replay ring. */
const handoffPlace = ({ layout }: Memory, port: number, from: number, to: number): RingPlace =>
  from === to
    ? placeAt(layout.replay(port, to), REPLAY_ENTRIES, ENTRY_WORDS)
    : placeAt(layout.handoff(port, from, to), layout.handoffEntries, ENTRY_WORDS);

/** The sending end of the handoff ring of one port from one worker to another. Belongs to `from`'s thread. */
export class HandoffSender {
  readonly to: number;
  readonly #words: Int32Array;
  readonly #ring: Producer;
  readonly #pool: FramePool;
  readonly #frames: number;
  readonly #owner: number;
  #staged = 0;

  constructor(memory: Memory, pool: FramePool, port: number, from: number, to: number) {
    this.to = to;
    this.#words = memory.words;
    this.#ring = new Producer(memory.words, handoffPlace(memory, port, from, to));
    this.#pool = pool;
    this.#frames = memory.layout.frames;
    this.#owner = handoffOwner(from, to);
  }

  get staged(): number {
    return this.#staged;
  }

  /** How many of `wanted` packets can be pushed. */
  room(wanted: number): number {
    return this.#ring.reserve(wanted + this.#staged) - this.#staged;
  }

  /** Stages one packet; only after `room` said so. */
  push(offset: number, bytes: number, kind: number, path: PathId, hash: number): void {
    const words = this.#words;
    const address = offset - this.#frames;
    const slot = this.#ring.slot(this.#staged);
    words[slot] = address;
    words[slot + 1] = bytes;
    words[slot + 2] = handoffMeta(kind, path);
    words[slot + 3] = hash;
    this.#pool.setOwner(address, this.#owner);
    this.#staged++;
  }

  /** Publishes the pushed packets. Returns how many. */
  commit(): number {
    const count = this.#staged;
    if (count > 0) this.#ring.commit(count);
    this.#staged = 0;
    return count;
  }

  /** Packets pushed that the receiver has not taken. */
  pending(): number {
    return this.#ring.pending() + this.#staged;
  }

  /** All packets ever pushed, wrapping. */
  get cursor(): number {
    return (this.#ring.cursor + this.#staged) | 0;
  }

  /** Whether the receiver has taken all packets before this cursor. */
  hasPassed(cursor: number): boolean {
    this.#ring.pending();
    return ((this.#ring.consumed - cursor) | 0) >= 0;
  }

  /** Visits every published frame. */
  enumerate(visit: (address: number) => void): void {
    const count = this.#ring.pending();
    for (let i = 0; i < count; i++) visit(this.#words[this.#ring.pendingSlot(i)]!);
  }
}

/** The receiving end. Belongs to `to`'s thread. */
export class HandoffReceiver {
  readonly from: number;
  readonly #words: Int32Array;
  readonly #ring: Consumer;
  readonly #frames: number;
  /** Entries of the last {@link receive} that are not released. */
  #read = 0;

  constructor(memory: Memory, pool: FramePool, port: number, from: number, to: number) {
    this.from = from;
    this.#words = memory.words;
    this.#ring = new Consumer(memory.words, handoffPlace(memory, port, from, to));
    this.#frames = memory.layout.frames;
    // A frame may have come by here, gone home and come again: its last entry counts.
    const owner = handoffOwner(from, to);
    keepUnhandled(this.#words, this.#ring, ENTRY_WORDS, pool, owner, this.#ring.pending());
  }

  /** Entries that can be read, `max` at most. */
  ready(max: number): number {
    return this.#ring.peek(max);
  }

  /** All entries that can be read. */
  pending(): number {
    return this.#ring.pending();
  }

  /** Kind and path of the oldest entry: a {@link handoffMeta}. Only if there is an entry. */
  get meta(): number {
    return this.#words[this.#ring.slot(0) + 2]!;
  }

  /** Reads the oldest entries that are all of the same kind and path, `max` at most. Returns how many. */
  receive(offset: Int32Array, bytes: Int32Array, hash: Int32Array, max: number): number {
    const words = this.#words;
    const ring = this.#ring;
    const count = ring.peek(max);
    const { meta } = this;
    for (let i = 0; i < count; i++) {
      const slot = ring.slot(i);
      if (words[slot + 2] !== meta) {
        this.#read = i;
        return i;
      }
      offset[i] = this.#frames + words[slot]!;
      bytes[i] = words[slot + 1]!;
      hash[i] = words[slot + 3]!;
    }
    this.#read = count;
    return count;
  }

  /** {@link release} of what the last {@link receive} has read, if that has not been released. */
  releaseRead(): void {
    if (this.#read > 0) this.release(this.#read);
  }

  /** Releases `count` entries, once each of their frames has another owner. The sender takes them for handled and sent. */
  release(count: number): void {
    this.#read = 0;
    this.#ring.release(count);
  }
}
