/**
 * The receive side of a path queue whose ring has AF_XDP's descriptors. Received packets stay in the ring until they are
 * released, so a worker's death loses none. Belongs to the worker thread.
 */
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import { type QueueAddress, Ring, type RingId } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import type { BurstArrays, Receiver } from './path.ts';

export class ReceiveRing implements Receiver {
  readonly ring: Consumer;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #ringOps: RingOperations;
  readonly #frames: number;
  #received = 0;

  /**
   * @param ring TX for a path that is its own other end
   * @param ringOps for tests: not the thread's
   */
  constructor(
    memory: Memory,
    address: QueueAddress,
    ring: RingId = Ring.RX,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    const { port, queue, path } = address;
    this.ring = new Consumer(memory.words, ringPlace(memory, address, ring));
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#ringOps = ringOps;
    this.#frames = memory.layout.frames;
  }

  ready(max: number): number {
    return this.ring.peek(max);
  }

  receive({ at }: BurstArrays, max: number): number {
    const { ring } = this;
    const count = ring.peek(max);
    if (count === 0) return 0;
    const bytes = this.#ringOps.receive(at, ring.slotsAt, ring.mask, ring.cursor, count, this.#frames);
    this.count(count, bytes);
    return count;
  }

  /** Counts what was received, which {@link release} gives back. */
  count(packets: number, bytes: number): void {
    this.#received = packets;
    if (packets === 0) return;
    this.#doubles[this.#counter.rxPackets]! += packets;
    this.#doubles[this.#counter.rxBytes]! += bytes;
  }

  release(): void {
    if (this.#received > 0) this.ring.release(this.#received);
    this.#received = 0;
  }
}
