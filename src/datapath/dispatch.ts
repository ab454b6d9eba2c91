/**
 * Runs the handler over a burst and does with each packet what it decided.
 *
 * Whoever takes a frame passes it on or frees it: after {@link Dispatch.run} every frame of the burst is
 * on its way out, staged on the owning path, or back in the pool; and each packet that went nowhere is in
 * exactly one counter. Belongs to the worker thread of its queue.
 */
import { type CounterIndex, queueCounters } from '../memory/counters.ts';
import { type FramePool, Holder } from '../memory/frames.ts';
import { HEADROOM, type PathId, type QueueCounter } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathQueue } from '../paths/path.ts';
import type { Burst, FrameSource } from './burst.ts';
import type { Handler } from './handler.ts';
import { TX } from './verdict.ts';

/** Ethernet header: a shorter frame is none. */
const SHORTEST = 14;

/** What a worker tells about exceptions of its handler. Called rarely; may be slow. */
export type HandlerFailure = (error: unknown, times: number) => void;

export interface DispatchContext {
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly handler: Handler;
  readonly failed: HandlerFailure;
  readonly port: number;
  readonly queue: number;
}

export class Dispatch implements FrameSource {
  /** The path that owns the queue: what packets are sent by. */
  out: PathQueue | undefined;

  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #handler: Handler;
  readonly #failed: HandlerFailure;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #frames: number;
  readonly #longest: number;
  readonly #port: number;
  #nextReport = 1;

  constructor({ memory, pool, burst, handler, failed, port, queue }: DispatchContext) {
    this.#burst = burst;
    this.#pool = pool;
    this.#handler = handler;
    this.#failed = failed;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#frames = memory.layout.frames;
    this.#longest = memory.layout.geometry.frameSize - HEADROOM;
    this.#port = port;
  }

  /** Handles the first `count` packets of the burst's arrays, which came by `path`. */
  run(count: number, path: PathId): void {
    const burst = this.#burst;
    burst.bind(this);
    burst.port.fill(this.#port, 0, count);
    burst.path.fill(path, 0, count);
    burst.begin(count);
    this.#doubles[this.#counter.bursts]!++;
    for (;;) {
      const done = this.#handle();
      this.#settle(done);
      if (done >= burst.length) return;
      burst.shift(done);
    }
  }

  take(): number {
    const pool = this.#pool;
    if (pool.count === 0) {
      this.#doubles[this.#counter.sendRefused]!++;
      return -1;
    }
    const address = pool.peek(0);
    pool.give(address, Holder.HAND);
    pool.remove(1);
    return this.#frames + address + HEADROOM;
  }

  post(offset: number, length: number): boolean {
    const { out } = this;
    if (out === undefined || length < SHORTEST || length > this.#longest || out.room(1) < 1) {
      this.#doubles[this.#counter.sendRefused]!++;
      this.put(offset);
      return false;
    }
    out.push(offset, length);
    this.#doubles[this.#counter.sent]!++;
    return true;
  }

  put(offset: number): void {
    this.#pool.put(offset - this.#frames);
  }

  /** Sends a packet taken back from a path that went away. Its counters stay with that path. */
  resend(offset: number, length: number): void {
    const { out } = this;
    // The new path is ours alone at this moment, so a few rounds always make room; unless it is broken.
    for (let round = 0; out !== undefined && round < 16; round++) {
      if (out.room(1) === 1) {
        out.push(offset, length);
        return;
      }
      out.flush();
      out.complete();
    }
    this.#doubles[out === undefined ? this.#counter.dropNoPath : this.#counter.dropTxFull]!++;
    this.put(offset);
  }

  /** Calls the handler. Returns how many packets of the burst are decided. */
  #handle(): number {
    const burst = this.#burst;
    try {
      this.#handler(burst);
      return burst.length;
    } catch (error) {
      const times = ++this.#doubles[this.#counter.handlerErrors]!;
      if (times >= this.#nextReport) {
        this.#nextReport = times * 2; // the first, then ever more rarely: an error a packet must not flood
        this.#failed(error, times);
      }
      // The packet it looked at last is the one it failed on. A handler that reads the arrays itself
      // leaves no such trace, and then the whole burst counts as failed.
      const culprit = burst.cursor;
      const from = Math.max(culprit, 0);
      const done = culprit < 0 ? burst.length : culprit + 1;
      for (let i = from; i < done; i++) burst.verdict[i] = FAILED;
      return done;
    }
  }

  /** Carries out the verdicts of the first `count` packets. */
  #settle(count: number): void {
    const { offset, bytes, verdict } = this.#burst;
    const { out } = this;
    const doubles = this.#doubles;
    const counter = this.#counter;
    let room = out === undefined ? 0 : out.room(count);
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      const at = offset[i]!;
      if (verdict[i] === TX && room > 0 && bytes[i]! >= SHORTEST && bytes[i]! <= this.#longest) {
        out!.push(at, bytes[i]!);
        room--;
        continue;
      }
      this.put(at);
      if (verdict[i] === TX) {
        const bad = bytes[i]! < SHORTEST || bytes[i]! > this.#longest;
        const why = bad ? counter.dropBadLength : out === undefined ? counter.dropNoPath : counter.dropTxFull;
        doubles[why]!++;
      } else if (verdict[i] === FAILED) doubles[counter.dropHandlerError]!++;
      else dropped++;
    }
    if (dropped > 0) doubles[counter.dropVerdict]! += dropped;
  }
}

/** The verdict of a packet whose handler threw. Not a handler's to give. */
const FAILED = 255;
