/**
 * A path queue, the worker's end of a path: what a driver implements to move packets. The drivers are `af-xdp`, `tap`,
 * `memory` and `host`; device.ts has the coordinator's end. attached-path.ts adds what a worker needs to sleep on a path,
 * to leave it and to account for its frames.
 *
 * Calls take and return counts, never wait and never throw; the caller decides what to drop, and counts it. A path queue
 * belongs to the worker thread of its queue.
 */
import type { PathId } from '../memory/layout.ts';

export interface PathQueue {
  readonly path: PathId;
  readonly rx: Receiver;
  readonly tx: Transmitter;
  /** Offers the kernel free frames for packets to come. */
  refill(): void;
}

/** The arrays of a burst, which is at `at` in the shared memory: offsets of packets and their lengths. */
export interface BurstArrays {
  readonly at: number;
  readonly offset: Int32Array;
  readonly bytes: Int32Array;
}

export interface Receiver {
  /**
   * Packets that can be received, `max` at most.
   *
   * @param anew 0 means that the path is empty now, and not that it was when a slow driver looked last
   */
  ready(max: number, anew?: boolean): number;
  /**
   * Writes the offsets and lengths of the next packets to the burst, `max` at most, and returns how many. They stay in
   * the ring until {@link release}. Packets outside the frames are in buffers of the path's own, which it reuses after
   * that; for these it also writes the burst's `offload` array.
   */
  receive(burst: BurstArrays, max: number): number;
  /** Gives back the entries of the last `receive` or in-place call, once each frame has another owner. */
  release(): void;
}

export interface Transmitter {
  /** How many of `wanted` packets can be pushed. */
  room(wanted: number): number;
  /** Stages one packet; only after `room` said so. */
  push(offset: number, bytes: number): void;
  /**
   * Stages packets `from` … `to` of the burst at `burst`, and returns how many: it stops before the first whose verdict is
   * not TX, that is shorter than an Ethernet header or longer than `maxPacketBytes`, or that has no room. A driver without
   * it gets packets one by one.
   */
  pushBurst?(burst: number, from: number, to: number, maxPacketBytes: number): number;
  /**
   * Publishes the staged packets and wakes the kernel if necessary. Returns 0, or the negative errno of a kick that found
   * the device gone: from then on every call returns it, and packets only wait to be taken back.
   */
  flush(): number;
  /** Takes sent frames back into the pool. */
  complete(): void;
}
