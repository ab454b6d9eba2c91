/**
 * Runs the handler over a burst and carries out its verdicts.
 *
 * Each frame has exactly one owner, which transmits it, hands it over or frees it: after {@link Dispatch.run} every frame
 * of the burst is staged on a path, in another worker's ring or back in the pool, and each dropped packet is in exactly
 * one counter. Packets of the host path are not in frames: see host-packets.ts.
 *
 * One object for each (port, worker). Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import {
  DELIVER,
  DROP,
  FAILED,
  FORWARD,
  type Handler,
  type InPlaceHandler,
  isTeed,
  PASS,
  TEE,
  TX,
} from '../handler/handler.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { DeliverySender } from '../memory/delivery-ring.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM, Path, type PathId, RESERVED } from '../memory/layout.ts';
import { ORDERED } from '../memory/metadata.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { ETHERNET_BYTES } from '../net/ethernet.ts';
import type { AttachedPath } from '../paths/attached-path.ts';
import type { CaptureTap } from './capture-tap.ts';
import { ForwardPort, type ForwardTable } from './forward.ts';
import { HandlerCall, type HandlerFailure, handoffSource } from './handler-call.ts';
import { HandlerFrames } from './handler-frames.ts';
import { HostPackets } from './host-packets.ts';
import { InPlace } from './in-place.ts';
import { ReceivedMetadata } from './received-metadata.ts';
import type { Scope } from './scope.ts';
import { TransmitOffloads } from './transmit-offloads.ts';

/** Why a packet is dropped that a dead worker had in hand. */
export type DeathCounter = 'dropStuck' | 'dropWorkerDied';

export interface DispatchContext extends Scope {
  readonly handler: Handler;
  readonly inPlace?: InPlaceHandler | undefined;
  readonly failed: HandlerFailure;
  readonly forwardTable: ForwardTable;
  /** To the application. */
  readonly delivery: DeliverySender;
  /** What the handler asks for: `MetadataBit`s. Default none. */
  readonly metadata?: number;
  /** Whether the worker hashes each packet. */
  readonly hashes?: boolean;
}

export class Dispatch {
  /** The path to the machine's own stack. */
  host: AttachedPath | undefined;
  /** Copies packets for captures; undefined while none runs on the port. */
  capture: CaptureTap | undefined;
  /** Frames for packets that the handler makes itself. */
  readonly frames: HandlerFrames;
  /** The handler's own loop over the rings, if it has one. */
  readonly inPlace: InPlace;
  /** The port's end of forwarding. */
  readonly forwardPort: ForwardPort;
  /** To the application. */
  readonly delivery: DeliverySender;
  /** Whether the handler has sent a packet with {@link TEE}: in place, such a packet leaves after all others of a call. */
  sendsTeed = false;

  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #call: HandlerCall;
  readonly #hostPackets: HostPackets;
  /** Undefined if the handler asks for no metadata. */
  readonly #metadata: ReceivedMetadata | undefined;
  /** Undefined if it orders nothing. */
  readonly #offloads: TransmitOffloads | undefined;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #framesAt: number;
  readonly #framesEnd: number;
  readonly #ringOps: RingOperations;
  readonly #memory: Memory;
  /** Bytes of a packet that a frame holds, and that the path sends: see `maxPacketBytes` of the path slot. */
  readonly #maxPacketBytes: number;
  #limit: number;
  #limitAt = -1;
  readonly #port: number;
  readonly #queue: number;
  #out: AttachedPath | undefined;

  constructor(context: DispatchContext) {
    const { memory, burst, port, queue, metadata = 0, hashes = false } = context;
    const { layout } = memory;
    const offloads = new TransmitOffloads(context, this);
    this.#metadata =
      metadata === 0 ? undefined : new ReceivedMetadata(memory, burst, port, queue, metadata, hashes);
    this.#offloads = (metadata & ORDERED) === 0 ? undefined : offloads;
    this.#burst = burst;
    this.#pool = context.pool;
    this.#call = new HandlerCall(context, context.handler, context.failed);
    this.delivery = context.delivery;
    this.#hostPackets = new HostPackets(context, this, this.#offloads);
    this.forwardPort = new ForwardPort(context, context.forwardTable, this);
    this.frames = new HandlerFrames(context, this, offloads);
    this.inPlace = new InPlace(context, this, this.frames, this.#call);
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#framesAt = layout.frames;
    this.#framesEnd = layout.frames + layout.framesBytes;
    this.#ringOps = ringOperationsOf(memory);
    this.#memory = memory;
    this.#maxPacketBytes = layout.geometry.frameSize - HEADROOM;
    this.#limit = this.#maxPacketBytes;
    this.#port = port;
    this.#queue = queue;
  }

  /** The path that owns the queue: packets are transmitted on it. */
  get out(): AttachedPath | undefined {
    return this.#out;
  }

  set out(path: AttachedPath | undefined) {
    this.#out = path;
    const address = path && { port: this.#port, queue: this.#queue, path: path.path };
    this.#limitAt = address === undefined ? -1 : this.#memory.slot(address).at('maxPacketBytes');
    this.readLimit();
  }

  /** Bytes of the longest packet that the path sends, as of the last {@link readLimit}. */
  get limit(): number {
    return this.#limit;
  }

  /** Reads the longest packet of that path: once a round, since its MTU may change. */
  readLimit(): void {
    this.#limit = this.#limitAt < 0 ? this.#maxPacketBytes : this.#words[this.#limitAt]!;
  }

  /**
   * Handles the first `count` packets of the burst's arrays, which came by `path`.
   *
   * @param source where they are until the burst is handled, for the successor of a stuck worker: the path, or the
   *   handoff ring
   */
  run(count: number, path: PathId, source: number = path): void {
    const burst = this.#burst;
    // Packets outside the frames are in buffers of the host path's own: see `Receiver.receive`.
    const inBuffers = path === Path.HOST && burst.offset[0]! >= this.#framesEnd;
    burst.bind(this.frames);
    this.#ringOps.begin(burst.at, this.#port, path, inBuffers);
    // The source of a replay is this queue's own ring.
    this.#metadata?.read(count, path, source !== handoffSource(this.#queue));
    burst.open(count);
    this.#doubles[this.#counter.bursts]!++;
    this.capture?.received(burst, count, path);
    for (;;) {
      const done = this.#call.run(source);
      this.capture?.decided(burst, done);
      if (inBuffers) {
        this.#hostPackets.settle(done, this.#out);
        if (this.delivery.staged > 0) this.#deliver();
      } else this.settle(done);
      if (done >= burst.length) return;
      burst.shift(done);
    }
  }

  /** Carries out the verdicts, and what is ordered with them, of the first `count` packets. */
  settle(count: number): void {
    if (this.#offloads === undefined) this.settleRange(0, count);
    else this.#offloads.settle(count);
    if (this.delivery.staged > 0) this.#deliver();
  }

  /** Carries out the verdicts of packets `from` … `to`. */
  settleRange(from: number, to: number): void {
    const { offset, bytes, verdict, target, at } = this.#burst;
    const tx = this.#out?.tx;
    let dropped = 0;
    for (let i = from; i < to; i++) {
      const decided = verdict[i]!;
      if (decided === TX && tx?.pushBurst !== undefined) {
        const pushed = tx.pushBurst(at, i, to, this.#limit);
        if (pushed > 0) {
          if (this.capture !== undefined) this.#captureSent(i, pushed);
          i += pushed - 1;
          continue;
        }
      }
      if (decided === DROP) {
        this.put(offset[i]!);
        dropped++;
      } else this.carryOut(i, decided, target[i]!, offset[i]!, bytes[i]!);
    }
    if (dropped > 0) this.#doubles[this.#counter.dropVerdict]! += dropped;
  }

  /** Carries out one verdict on one packet in a frame. */
  carryOut(i: number, verdict: number, target: number, offset: number, length: number): void {
    const counter = this.#counter;
    switch (verdict) {
      case TX:
        this.transmit(offset, length);
        return;
      case PASS:
        this.#pass(offset, length);
        return;
      case FORWARD:
        this.forwardPort.forward(target, offset, length);
        return;
      case DELIVER:
        if (!this.delivery.push(i, offset, length)) this.drop(offset, counter.dropDeliverFull);
        return;
      default:
        if (isTeed(verdict)) {
          if (!this.delivery.pushCopy(i, offset, length)) this.#doubles[counter.teeFull]!++;
          if ((verdict & ~TEE) === TX) this.sendsTeed = true;
          this.carryOut(i, verdict & ~TEE, target, offset, length);
          return;
        }
        this.drop(offset, verdict === FAILED ? counter.dropHandlerError : counter.dropVerdict);
    }
  }

  /** Publishes what is staged for the application. */
  #deliver(): void {
    const { delivery } = this;
    this.#doubles[this.#counter.delivered]! += delivery.staged;
    this.#doubles[this.#counter.teed]! += delivery.copies;
    delivery.commit();
  }

  /** Packets of the burst that were given to the path. */
  #captureSent(from: number, count: number): void {
    const { offset, bytes } = this.#burst;
    for (let i = from; i < from + count; i++) this.sent(offset[i]!, bytes[i]!);
  }

  /** A packet was given to the path that owns the queue. */
  sent(offset: number, length: number): void {
    if (this.capture !== undefined) this.capture.sent(offset, length, this.#out!.path);
  }

  /** Transmits a packet, or drops it and counts why. */
  transmit(offset: number, length: number): void {
    if (this.transmitFor(offset, length)) this.sent(offset, length);
  }

  /** The same for another worker, which has captured the packet already. Returns whether it was given to the path. */
  transmitFor(offset: number, length: number): boolean {
    const out = this.#out;
    const counter = this.#counter;
    if (length < ETHERNET_BYTES || length > this.#limit) {
      const tooLong = length > this.#limit && length <= this.#maxPacketBytes;
      this.drop(offset, tooLong ? counter.dropTooLong : counter.dropBadLength);
    } else if (out === undefined) this.drop(offset, counter.dropNoPath);
    // One packet may become several, more than there was room for when the burst began.
    else if (out.tx.room(1) < 1 && !this.#makeRoom(out)) this.drop(offset, counter.dropTxFull);
    else {
      out.tx.push(offset, length);
      return true;
    }
    return false;
  }

  #pass(offset: number, length: number): void {
    const { host } = this;
    const counter = this.#counter;
    const headroom = (offset - this.#framesAt) & (this.#pool.frameSize - 1);
    if (length < ETHERNET_BYTES || length > this.#maxPacketBytes || headroom < RESERVED) {
      this.drop(offset, counter.dropBadLength);
    } else if (host === undefined) this.drop(offset, counter.dropNoHost);
    else if (host.tx.room(1) < 1 && !this.#makeRoom(host)) this.drop(offset, counter.dropHostFull);
    else {
      host.tx.push(offset, length);
      this.capture?.sent(offset, length, Path.HOST);
    }
  }

  #makeRoom({ tx }: AttachedPath): boolean {
    tx.flush();
    tx.complete();
    return tx.room(1) === 1;
  }

  drop(offset: number, why: number): void {
    this.#doubles[why]!++;
    this.put(offset);
  }

  put(offset: number): void {
    this.#pool.put(offset - this.#framesAt);
  }

  /** A frame of the pool, in hand: offset of its first packet byte. Only if one is free. */
  takeFrame(): number {
    const pool = this.#pool;
    const address = pool.peek(0);
    pool.setOwner(address, pool.hand);
    pool.remove(1);
    return this.#framesAt + address + HEADROOM;
  }

  /** Calls the handler's `tick` with an empty burst, from which it can send. */
  tick(call: (burst: Burst, port: number) => void): void {
    this.#doubles[this.#counter.ticks]!++;
    try {
      this.between(call);
    } catch (error) {
      this.#call.report(error);
    }
  }

  /** Calls a function of the handler with an empty burst, from which it can send. @throws what it throws */
  between(call: (burst: Burst, port: number) => void): void {
    const burst = this.#burst;
    burst.bind(this.frames);
    burst.begin(0);
    this.#call.begin(0, 0);
    try {
      call(burst, this.#port);
    } finally {
      this.#call.end();
    }
  }

  /** Sends a packet taken back from a path that is left. Its counters stay with that path. */
  resend(offset: number, length: number): void {
    const out = this.#out;
    if (length > this.#limit) {
      this.drop(offset, this.#counter.dropTooLong);
      return;
    }
    // No other thread uses the new path now, so a few attempts make room, unless it is broken.
    for (let attempt = 0; out !== undefined && attempt < 16; attempt++) {
      if (out.tx.room(1) === 1) {
        out.tx.push(offset, length);
        return;
      }
      out.tx.flush();
      out.tx.complete();
    }
    this.drop(offset, out === undefined ? this.#counter.dropNoPath : this.#counter.dropTxFull);
  }

  /** Drops a packet that a dead worker had in hand. */
  discard(offset: number, why: DeathCounter): void {
    this.drop(offset, this.#counter[why]);
  }

  /** Counts such packets whose frames are gone. */
  lost(packets: number, why: DeathCounter): void {
    this.#doubles[this.#counter[why]]! += packets;
  }
}
