/**
 * The way in of a path queue whose ring holds descriptors of AF_XDP's shape. What is received stays in the ring until it
 * is released, so that a worker's death loses nothing. Belongs to the worker thread.
 */
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { IN_PLACE_BURST, type QueueAddress, Ring, type RingId } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import type { Receiver } from './path.ts';

export class ReceiveRing implements Receiver {
  readonly ring: Consumer;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #ringOps: RingOperations;
  readonly #frames: number;
  #received = 0;

  /**
   * @param ring TX for a path that is its own other end
   * @param ringOps other than the thread's: for tests
   */
  constructor(
    memory: Memory,
    address: QueueAddress,
    ring: RingId = Ring.RX,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    const { port, queue, path } = address;
    this.ring = new Consumer(memory.words, ringPlace(memory, address, ring));
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#ringOps = ringOps;
    this.#frames = memory.layout.frames;
  }

  ready(max: number): number {
    return this.ring.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    const words = this.#words;
    const { ring } = this;
    const count = ring.peek(max);
    let total = 0;
    for (let i = 0; i < count; i++) {
      const slot = ring.slot(i);
      const length = words[slot + 2]!;
      offset[i] = this.#frames + words[slot]!;
      bytes[i] = length;
      total += length;
    }
    this.note(count, total);
    return count;
  }

  receiveBurst(burst: number, max: number): number {
    const { ring } = this;
    const count = ring.peek(max);
    if (count === 0) return 0;
    const total = this.#ringOps.receive(burst, ring.slotsAt, ring.mask, ring.cursor, count, this.#frames);
    this.note(count, total);
    return count;
  }

  /** Counts what was received, and what {@link release} is about. */
  note(packets: number, bytes: number): void {
    this.#received = packets;
    if (packets === 0) return;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += bytes;
  }

  /** Gives back what the last receive read. */
  release(): void {
    if (this.#received > 0) this.ring.release(this.#received);
    this.#received = 0;
  }

  /**
   * After a worker's death, of the packets that it had in hand: keeps what it had not dealt with, and releases the rest.
   *
   * What is left may lie between what is not, since packets for other queues are handed over before those of this one
   * are handled: so it is moved to the end. A worker that dies in this leaves entries doubled, of which the last one
   * counts.
   *
   * @param owner of the frames that lie in the ring
   * @param again whether frames that were dealt with may lie behind those, or among them, once more
   */
  keepUnhandled(pool: FramePool, owner: number, again = false): void {
    const words = this.#words;
    const { ring } = this;
    const mask = -pool.frameSize;
    const seen = new Set<number>();
    const taken = ring.peek(IN_PLACE_BURST);
    const behind = again ? ring.pending() : 0;
    for (let i = taken; i < behind; i++) seen.add(words[ring.slot(i)]! & mask);
    let kept = taken;
    for (let i = taken - 1; i >= 0; i--) {
      const slot = ring.slot(i);
      const frame = words[slot]! & mask;
      if (pool.ownerOf(frame) !== owner || seen.has(frame)) continue;
      seen.add(frame);
      words.copyWithin(ring.slot(--kept), slot, slot + 4);
    }
    if (kept > 0) ring.release(kept);
  }
}
