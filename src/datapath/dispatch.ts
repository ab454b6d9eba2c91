/**
 * Runs the handler over a burst and does with each packet what it decided.
 *
 * Whoever takes a frame passes it on or frees it: after {@link Dispatch.run} every frame of the burst is
 * on its way out, staged on a path, or back in the pool; and each packet that went nowhere is in exactly
 * one counter. Packets of the host path are another matter: see host-packets.ts.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */

import type { Burst } from '../handler/burst.ts';
import type { Handler, InPlaceHandler } from '../handler/handler.ts';
import { DELIVER, FAILED, FORWARD, PASS, TX } from '../handler/verdict.ts';
import type { CopySender } from '../memory/copies.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM, type PathId, RESERVED } from '../memory/layout.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { ETHERNET_BYTES } from '../net/ethernet.ts';
import type { PathQueue } from '../paths/path.ts';
import type { ForwardPort, ForwardTable } from './forward-table.ts';
import { HandlerCall, type HandlerFailure } from './handler-call.ts';
import { HandlerFrames } from './handler-frames.ts';
import { HostPackets } from './host-packets.ts';
import { InPlace } from './in-place.ts';
import type { Scope } from './scope.ts';

/** Why a packet that a dead worker had in hand goes nowhere. */
export type DeathCounter = 'dropStuck' | 'dropWorkerDied';

export interface DispatchContext extends Scope {
  readonly handler: Handler;
  readonly inPlace?: InPlaceHandler | undefined;
  readonly failed: HandlerFailure;
  readonly forwardTable: ForwardTable;
  /** To the application. */
  readonly delivery: CopySender;
}

export class Dispatch implements ForwardPort {
  /** The way to the machine's own stack. */
  host: PathQueue | undefined;
  /** Frames for packets that the handler makes itself. */
  readonly frames: HandlerFrames;
  /** The handler's own loop over the rings, if it has one. */
  readonly inPlace: InPlace;

  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #handler: Handler;
  readonly #call: HandlerCall;
  readonly #forwardTable: ForwardTable;
  readonly #delivery: CopySender;
  readonly #hostPackets: HostPackets;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #framesAt: number;
  readonly #ringOps: RingOperations;
  readonly #memory: Memory;
  /** Bytes of a packet that a frame holds, and that the path sends: see `maxPacketBytes` of the path slot. */
  readonly #maxPacketBytes: number;
  #limit: number;
  #limitAt = -1;
  readonly #port: number;
  readonly #queue: number;
  #out: PathQueue | undefined;

  constructor(context: DispatchContext) {
    const { memory, port, queue } = context;
    const { layout } = memory;
    this.#burst = context.burst;
    this.#pool = context.pool;
    this.#handler = context.handler;
    this.#call = new HandlerCall(context, context.failed);
    this.#forwardTable = context.forwardTable;
    this.#delivery = context.delivery;
    this.#hostPackets = new HostPackets(context, this);
    this.frames = new HandlerFrames(context, this);
    this.inPlace = new InPlace(context, this, this.frames, this.#call);
    this.#words = memory.words;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#framesAt = layout.frames;
    this.#ringOps = ringOperationsOf(memory);
    this.#memory = memory;
    this.#maxPacketBytes = layout.geometry.frameSize - HEADROOM;
    this.#limit = this.#maxPacketBytes;
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
    this.#limitAt = address === undefined ? -1 : this.#memory.slot(address).at('maxPacketBytes');
    this.lookUp();
  }

  /** Bytes of the longest packet that the way out sends, as of the last {@link lookUp}. */
  get limit(): number {
    return this.#limit;
  }

  /** Looks how long a packet may be on that path: once a round, since its MTU may change. */
  lookUp(): void {
    this.#limit = this.#limitAt < 0 ? this.#maxPacketBytes : this.#words[this.#limitAt]!;
  }

  /**
   * Handles the first `count` packets of the burst's arrays, which came by `path`.
   *
   * @param source where they still lie, for the one who replaces a worker that is stuck: the path, or the handoff ring
   * @param borrowed whether they lie in buffers that are not the pool's: see `Receiver`
   */
  run(count: number, path: PathId, source: number = path, borrowed = false): void {
    const burst = this.#burst;
    burst.bind(this.frames);
    this.#ringOps.begin(burst.at, this.#port, path, borrowed);
    burst.open(count);
    this.#doubles[this.#counter.bursts]!++;
    for (;;) {
      this.#call.begin(source, burst.length);
      const done = this.#handle();
      this.#call.end();
      if (borrowed) this.#hostPackets.settle(done, this.#out);
      else this.settle(done);
      if (done >= burst.length) return;
      burst.shift(done);
    }
  }

  /** An empty burst from which a handler that ticks can send. */
  tick(call: (burst: Burst, port: number) => void): void {
    const burst = this.#burst;
    burst.bind(this.frames);
    burst.begin(0);
    this.#doubles[this.#counter.ticks]!++;
    this.#call.begin(0, 0);
    try {
      call(burst, this.#port);
    } catch (error) {
      this.#call.blame(error);
    }
    this.#call.end();
  }

  put(offset: number): void {
    this.#pool.put(offset - this.#framesAt);
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
      if (out.tx.room(1) === 1) {
        out.tx.push(offset, length);
        return;
      }
      out.tx.flush();
      out.tx.complete();
    }
    this.#doubles[out === undefined ? this.#counter.dropNoPath : this.#counter.dropTxFull]!++;
    this.put(offset);
  }

  /** Sends a packet whose frame is passed on or freed, whatever happens, and counts why it was not. */
  transmit(offset: number, length: number): void {
    const out = this.#out;
    if (length < ETHERNET_BYTES || length > this.#limit) {
      const tooLong = length > this.#limit && length <= this.#maxPacketBytes;
      this.#drop(offset, tooLong ? this.#counter.dropTooLong : this.#counter.dropBadLength);
      return;
    }
    if (out === undefined) {
      this.#drop(offset, this.#counter.dropNoPath);
      return;
    }
    if (out.tx.room(1) < 1) {
      // Several packets may be made of one, more than there was room for when the burst began.
      out.tx.flush();
      out.tx.complete();
      if (out.tx.room(1) < 1) {
        this.#drop(offset, this.#counter.dropTxFull);
        return;
      }
    }
    out.tx.push(offset, length);
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
    if (length > this.#maxPacketBytes) {
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

  /** A frame of the pool, in hand: offset of its first packet byte. Only if there is one. */
  takeFrame(): number {
    const pool = this.#pool;
    const address = pool.peek(0);
    pool.setOwner(address, pool.hand);
    pool.remove(1);
    return this.#framesAt + address + HEADROOM;
  }

  /** Calls the handler. Returns how many packets of the burst are decided. */
  #handle(): number {
    const burst = this.#burst;
    try {
      this.#handler(burst);
      return burst.length;
    } catch (error) {
      this.#call.blame(error);
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
  settle(count: number): void {
    const { offset, bytes, verdict, target, at } = this.#burst;
    const tx = this.#out?.tx;
    let dropped = 0;
    for (let i = 0; i < count; i++) {
      const decided = verdict[i]!;
      if (decided === TX && tx?.pushBurst !== undefined) {
        const pushed = tx.pushBurst(at, i, count, this.#limit);
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
    const room = (at - this.#framesAt) & (this.#pool.frameSize - 1);
    if (length < ETHERNET_BYTES || length > this.#maxPacketBytes || room < RESERVED) {
      this.#drop(at, counter.dropBadLength);
      return;
    }
    if (host === undefined) {
      this.#drop(at, counter.dropNoHost);
      return;
    }
    if (host.tx.room(1) < 1) {
      host.tx.flush();
      host.tx.complete();
    }
    if (host.tx.room(1) < 1) this.#drop(at, counter.dropHostFull);
    else host.tx.push(at, length);
  }

  #forward(target: number, at: number, length: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    const { ports, relays } = this.#forwardTable;
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
    if (length > relay.sender.maxPacketBytes) {
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
