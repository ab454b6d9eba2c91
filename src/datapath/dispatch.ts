/**
 * Runs the handler over a burst and does with each packet what it decided.
 *
 * Whoever takes a frame passes it on or frees it: after {@link Dispatch.run} every frame of the burst is
 * on its way out, staged on a path, or back in the pool; and each packet that went nowhere is in exactly
 * one counter. Packets of the host path are another matter: see borrowed.ts.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */

import type { Burst, FrameSource } from '../handler/burst.ts';
import type { Handler, TurningHandler } from '../handler/handler.ts';
import { DELIVER, FAILED, FORWARD, PASS, TX } from '../handler/verdict.ts';
import type { CopySender } from '../memory/copies.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { type Kernels, kernelsOf } from '../memory/kernels.ts';
import { BURST, HEADROOM, type PathId, RESERVED } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { handlingWord } from '../memory/words.ts';
import type { PathQueue, PathTurn } from '../paths/path.ts';
import { Borrowed } from './borrowed.ts';
import type { Exits } from './exits.ts';

/** Ethernet header: a shorter frame is none. */
const SHORTEST = 14;

/** What a worker tells about exceptions of its handler. Called rarely; may be slow. */
export type HandlerFailure = (error: unknown, times: number) => void;

/** Why a packet that a dead worker had in hand goes nowhere. */
export type DeathCounter = 'dropStuck' | 'dropWorkerDied';

export interface DispatchContext {
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly burst: Burst;
  readonly handler: Handler;
  readonly turn?: TurningHandler | undefined;
  readonly failed: HandlerFailure;
  readonly port: number;
  readonly queue: number;
  readonly exits: Exits;
  /** To the application. */
  readonly delivery: CopySender;
}

export class Dispatch implements FrameSource {
  /** The way to the machine's own stack. */
  host: PathQueue | undefined;

  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #handler: Handler;
  readonly #turn: TurningHandler | undefined;
  readonly #failed: HandlerFailure;
  readonly #exits: Exits;
  readonly #delivery: CopySender;
  readonly #borrowed: Borrowed;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #handlingAt: number;
  readonly #beatAt: number;
  readonly #stuckAt: number;
  readonly #frames: number;
  readonly #kernels: Kernels;
  readonly #memory: Memory;
  /** Bytes of a packet that a frame holds, and that the path sends: see `longest` of the path slot. */
  readonly #longest: number;
  #limit: number;
  #limitAt = -1;
  readonly #port: number;
  readonly #queue: number;
  #out: PathQueue | undefined;
  /** Slots of the way out that a turn may be writing to. */
  #turning = 0;
  /** What the handler has sent in a turn, offset and length of each: it follows what the turn sends. */
  readonly #posted: number[] = [];
  #nextReport = 1;

  constructor(context: DispatchContext) {
    const { memory, port, queue } = context;
    const { layout } = memory;
    const worker = memory.workers[queue]!;
    this.#burst = context.burst;
    this.#pool = context.pool;
    this.#handler = context.handler;
    this.#turn = context.turn;
    this.#failed = context.failed;
    this.#exits = context.exits;
    this.#delivery = context.delivery;
    this.#borrowed = new Borrowed(context, this);
    this.#words = memory.words;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#handlingAt = worker.at('handling');
    this.#beatAt = worker.at('beat');
    this.#stuckAt = worker.at('stuck');
    this.#frames = layout.frames;
    this.#kernels = kernelsOf(memory);
    this.#memory = memory;
    this.#longest = layout.geometry.frameSize - HEADROOM;
    this.#limit = this.#longest;
    this.#port = port;
    this.#queue = queue;
  }

  /** The path that owns the queue: what packets are sent by. */
  get out(): PathQueue | undefined {
    return this.#out;
  }

  set out(path: PathQueue | undefined) {
    this.#out = path;
    const address = path && { port: this.#port, queue: this.#queue, path: path.path };
    this.#limitAt = address === undefined ? -1 : this.#memory.slot(address).at('longest');
    this.lookUp();
  }

  /** Looks how long a packet may be on that path: once a round, since its MTU may change. */
  lookUp(): void {
    this.#limit = this.#limitAt < 0 ? this.#longest : this.#words[this.#limitAt]!;
  }

  /**
   * Handles the first `count` packets of the burst's arrays, which came by `path`.
   *
   * @param source where they still lie, for the one who replaces a worker that is stuck: the path, or the lane
   * @param borrowed whether they lie in buffers that are not the pool's
   */
  run(count: number, path: PathId, source: number = path, borrowed = false): void {
    const burst = this.#burst;
    burst.bind(this);
    this.#kernels.begin(burst.at, this.#port, path, borrowed);
    burst.open(count);
    this.#doubles[this.#counter.bursts]!++;
    for (;;) {
      this.#handling(source, burst.length);
      const done = this.#handle();
      if (this.#words[this.#stuckAt] !== 0) this.#park();
      this.#words[this.#handlingAt] = 0;
      if (borrowed) this.#borrowed.settle(done, this.#out);
      else this.#settle(done);
      if (done >= burst.length) return;
      burst.shift(done);
    }
  }

  /**
   * Handles up to `most` packets of the path that owns the queue in the handler's own loop, from one of its rings to
   * the other. Returns how many, those that a trap has cost included.
   */
  turn(path: PathQueue, turn: PathTurn, most: number): number {
    const words = this.#words;
    const count = turn.begin(most);
    if (count === 0) return 0;
    this.#doubles[this.#counter.bursts]!++;
    this.#turning = count;
    this.#handling(path.path, count, true);
    let trapped = false;
    try {
      this.#turn!(this, turn.at, turn.from, turn.to, count);
    } catch (error) {
      this.#blame(error);
      trapped = true;
    }
    if (words[this.#stuckAt] !== 0) this.#park();
    words[this.#handlingAt] = 0;
    this.#turning = 0;
    const { done } = turn;
    const left = turn.end();
    if (left > 0) this.#settleLeft(left, path.path);
    if (this.#posted.length > 0) this.#pushPosted();
    path.release();
    return trapped ? done + this.#dropFailed(path, count - done) : done;
  }

  /** An empty burst from which a handler that ticks can send. */
  tick(call: (burst: Burst, port: number) => void): void {
    const burst = this.#burst;
    burst.bind(this);
    burst.begin(0);
    this.#doubles[this.#counter.ticks]!++;
    this.#handling(0, 0);
    try {
      call(burst, this.#port);
    } catch (error) {
      this.#blame(error);
    }
    if (this.#words[this.#stuckAt] !== 0) this.#park();
    this.#words[this.#handlingAt] = 0;
  }

  take(): number {
    const pool = this.#pool;
    if (pool.count === 0) {
      this.#doubles[this.#counter.sendRefused]!++;
      return -1;
    }
    return this.takeFrame();
  }

  post(offset: number, length: number): boolean {
    const out = this.#out;
    const room = this.#turning + this.#posted.length / 2 + 1;
    if (out === undefined || length < SHORTEST || length > this.#limit || out.room(room) < room) {
      this.#doubles[this.#counter.sendRefused]!++;
      this.put(offset);
      return false;
    }
    if (this.#turning > 0) this.#posted.push(offset, length);
    else out.push(offset, length);
    this.#doubles[this.#counter.sent]!++;
    return true;
  }

  put(offset: number): void {
    this.#pool.put(offset - this.#frames);
  }

  /** Sends a packet taken back from a path that went away. Its counters stay with that path. */
  resend(offset: number, length: number): void {
    const out = this.#out;
    if (length > this.#limit) {
      this.#drop(offset, this.#counter.dropTooLong);
      return;
    }
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

  /** Sends a packet whose frame is passed on or freed, whatever happens, and counts why it was not. */
  transmit(offset: number, length: number): void {
    const out = this.#out;
    if (length < SHORTEST || length > this.#limit) {
      const tooLong = length > this.#limit && length <= this.#longest;
      this.#drop(offset, tooLong ? this.#counter.dropTooLong : this.#counter.dropBadLength);
      return;
    }
    if (out === undefined) {
      this.#drop(offset, this.#counter.dropNoPath);
      return;
    }
    if (out.room(1) < 1) {
      // Several packets may be made of one, more than there was room for when the burst began.
      out.flush();
      out.complete();
      if (out.room(1) < 1) {
        this.#drop(offset, this.#counter.dropTxFull);
        return;
      }
    }
    out.push(offset, length);
  }

  /** A packet that has come to this port from another one. */
  accept(offset: number, length: number): void {
    this.#doubles[this.#counter.accepted]!++;
    this.transmit(offset, length);
  }

  /** A copy that has come from a port of another memory. */
  acceptCopy(at: number, length: number): void {
    this.#doubles[this.#counter.accepted]!++;
    // That memory's frames may be larger than these.
    if (length > this.#longest) {
      this.#doubles[this.#counter.dropBadLength]!++;
      return;
    }
    if (this.#pool.count === 0) {
      this.#doubles[this.#counter.dropNoFrame]!++;
      return;
    }
    const frame = this.takeFrame();
    this.#bytes.copyWithin(frame, at, at + length);
    this.transmit(frame, length);
  }

  /** Drops a packet that a dead worker had in hand. */
  discard(offset: number, why: DeathCounter): void {
    this.#drop(offset, this.#counter[why]);
  }

  /** Counts such packets of which nothing is left to drop. */
  lost(packets: number, why: DeathCounter): void {
    this.#doubles[this.#counter[why]]! += packets;
  }

  /** Says that the handler is called, and with what. */
  #handling(source: number, packets: number, turn = false): void {
    const words = this.#words;
    words[this.#beatAt] = (words[this.#beatAt]! + 1) | 0;
    words[this.#handlingAt] = handlingWord(this.#port, source, packets, turn);
  }

  /** A frame of the pool, in hand: offset of its first packet byte. Only if there is one. */
  takeFrame(): number {
    const pool = this.#pool;
    const address = pool.peek(0);
    pool.give(address, pool.hand);
    pool.remove(1);
    return this.#frames + address + HEADROOM;
  }

  /** The handler has returned after all, but too late: another worker is about to go on from here. */
  #park(): never {
    for (;;) Atomics.wait(this.#words, this.#stuckAt, 1);
  }

  /** Calls the handler. Returns how many packets of the burst are decided. */
  #handle(): number {
    const burst = this.#burst;
    try {
      this.#handler(burst);
      return burst.length;
    } catch (error) {
      this.#blame(error);
      // The packet it looked at last is the one it failed on. A handler that reads the arrays itself
      // leaves no such trace, and then the whole burst counts as failed.
      const culprit = burst.cursor;
      const from = Math.max(culprit, 0);
      const done = culprit < 0 ? burst.length : culprit + 1;
      for (let i = from; i < done; i++) burst.verdict[i] = FAILED;
      return done;
    }
  }

  #blame(error: unknown): void {
    const times = ++this.#doubles[this.#counter.handlerErrors]!;
    if (times < this.#nextReport) return;
    this.#nextReport = times * 2; // the first, then ever more rarely: an error a packet must not flood
    this.#failed(error, times);
  }

  /** Carries out the verdicts on what a turn has left in the burst. */
  #settleLeft(count: number, path: PathId): void {
    const burst = this.#burst;
    burst.open(count);
    burst.port.fill(this.#port, 0, count);
    burst.path.fill(path, 0, count);
    this.#settle(count);
  }

  #pushPosted(): void {
    const posted = this.#posted;
    for (let i = 0; i < posted.length; i += 2) this.#out!.push(posted[i]!, posted[i + 1]!);
    posted.length = 0;
  }

  /** Drops the portion of a turn in which the handler has trapped: as much as the trap of a burst costs. */
  #dropFailed(path: PathQueue, most: number): number {
    const burst = this.#burst;
    const count = path.receive(burst.offset, burst.bytes, Math.min(most, BURST));
    burst.open(count);
    burst.verdict.fill(FAILED, 0, count);
    this.#settle(count);
    path.release();
    return count;
  }

  /** Carries out the verdicts of the first `count` packets. */
  #settle(count: number): void {
    const { offset, bytes, verdict, target, at } = this.#burst;
    const out = this.#out;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      const decided = verdict[i]!;
      if (decided === TX && out?.pushBurst !== undefined) {
        const pushed = out.pushBurst(at, i, count, this.#limit);
        if (pushed > 0) {
          i += pushed - 1;
          continue;
        }
      }
      if (decided === 0) {
        this.put(offset[i]!);
        dropped++;
      } else this.carryOut(i, decided, target[i]!, offset[i]!, bytes[i]!);
    }
    if (dropped > 0) this.#doubles[this.#counter.dropVerdict]! += dropped;
  }

  /** One verdict on one packet in a frame of a pool, which is passed on or freed. */
  carryOut(i: number, verdict: number, target: number, at: number, length: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    switch (verdict) {
      case TX:
        this.transmit(at, length);
        return;
      case PASS:
        this.#pass(at, length);
        return;
      case FORWARD:
        this.#forward(target, at, length);
        return;
      case DELIVER: {
        const { hash, path } = this.#burst;
        const delivered = this.#delivery.push(at, length, this.#port, path[i]!, hash[i]!);
        doubles[delivered ? counter.delivered : counter.dropDeliverFull]!++;
        this.put(at);
        return;
      }
      default:
        this.#drop(at, verdict === FAILED ? counter.dropHandlerError : counter.dropVerdict);
    }
  }

  #pass(at: number, length: number): void {
    const { host } = this;
    const counter = this.#counter;
    const room = (at - this.#frames) & (this.#pool.frameSize - 1);
    if (length < SHORTEST || length > this.#longest || room < RESERVED) {
      this.#drop(at, counter.dropBadLength);
      return;
    }
    if (host === undefined) {
      this.#drop(at, counter.dropNoHost);
      return;
    }
    if (host.room(1) < 1) {
      host.flush();
      host.complete();
    }
    if (host.room(1) < 1) this.#drop(at, counter.dropHostFull);
    else host.push(at, length);
  }

  #forward(target: number, at: number, length: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    const { ports, relays } = this.#exits;
    const port = ports[target];
    if (port !== undefined) {
      doubles[counter.forwarded]!++;
      port.accept(at, length);
      return;
    }
    const relay = relays[target - ports.length];
    if (relay === undefined || !relay.open) {
      this.#drop(at, counter.dropNoPort);
      return;
    }
    if (length > relay.sender.longest) {
      this.#drop(at, counter.dropBadLength);
      return;
    }
    if (relay.sender.push(at, length, relay.port, 0, 0)) {
      doubles[counter.forwarded]!++;
      doubles[counter.forwardedCopies]!++;
      this.put(at);
    } else this.#drop(at, counter.dropTxFull);
  }

  #drop(at: number, why: number): void {
    this.#doubles[why]!++;
    this.put(at);
  }
}
