/**
 * A path whose other end is itself: what a queue sends on it, the queue receives. One ring of AF_XDP's descriptors, of
 * which the worker is the producer and the consumer; frames never leave it but by a verdict. For measuring and testing a
 * datapath without a peer: handlers start the packets that circulate, by `burst.send`.
 *
 * A frame in the ring is given to the path (TX), and stays so while it is received and sent again. So after a worker's
 * death an entry counts only if its frame is still the path's and lies nowhere behind it in the ring.
 */
import { Xsk } from '../../kernel/abi.ts';
import {
  type CounterIndex,
  type KernelCounter,
  NOTHING_DROPPED,
  type PathCounter,
  pathCounters,
} from '../../memory/counters.ts';
import type { FramePool, PathLedger } from '../../memory/frames.ts';
import { Holder, holderTag } from '../../memory/holder.ts';
import { kernelsOf } from '../../memory/kernels.ts';
import { Driver, OWN_RING, type PathId, PathSlot, Reader, Ring } from '../../memory/layout.ts';
import type { Memory } from '../../memory/shared.ts';
import { limitLength, roomOf } from '../frame-room.ts';
import type { PathDescription, PathDevice, PathQueue, QueueAddress } from '../path.ts';
import { ReceiveRing } from '../receive-ring.ts';
import { ringPlace } from '../ring-queue.ts';
import { TransmitRing } from '../transmit-ring.ts';
import { Turn } from '../turn.ts';

/** The worker's end, which is both. */
export class LoopQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  readonly fd = -1;
  /** What is published has arrived. */
  readonly backlog = false;
  readonly turn: Turn;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  readonly #mask: number;
  readonly #in: ReceiveRing;
  readonly #out: TransmitRing;

  /** @param kernels other than the thread's: for tests */
  constructor(memory: Memory, pool: FramePool, address: QueueAddress, kernels = kernelsOf(memory)) {
    const { port, queue, path } = address;
    const { layout, words, doubles } = memory;
    const slot = layout.slot(port, queue, path);
    const place = ringPlace(memory, slot, layout.ring(port, queue, path, Ring.TX), Ring.TX);
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.#words = words;
    this.#doubles = doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#mask = -pool.frameSize;
    this.#out = new TransmitRing(memory, pool, address, this.tag, place, kernels);
    this.#doubles[this.#counter.txPackets]! += this.#out.resume();
    this.#in = new ReceiveRing(memory, address, place, kernels);
    this.#in.keepUnhandled(pool, Holder.TX | this.tag, true);
    this.turn = new Turn(memory, address, this.#in, this.#out);
  }

  ready(max: number): number {
    return this.#in.ring.peek(max);
  }

  receive(offset: Int32Array, bytes: Int32Array, max: number): number {
    return this.#in.receive(offset, bytes, max);
  }

  receiveBurst(burst: number, max: number): number {
    return this.#in.receiveBurst(burst, max);
  }

  release(): void {
    this.#in.release();
  }

  room(wanted: number): number {
    return this.#out.room(wanted);
  }

  push(offset: number, bytes: number): void {
    this.#out.push(offset, bytes);
  }

  pushBurst(burst: number, from: number, to: number, longest: number): number {
    return this.#out.pushBurst(burst, from, to, longest);
  }

  flush(): number {
    const count = this.#out.publish();
    if (count > 0) this.#doubles[this.#counter.txPackets]! += count;
    return 0;
  }

  complete(): void {}

  refill(): void {}

  inFlight(): number {
    return this.#out.staged;
  }

  /** Nothing waits here to be taken: what was sent has arrived, and is received. */
  takeBack(): number {
    this.flush();
    return 0;
  }

  ledger(): PathLedger {
    return { fill: 0, rx: this.#in.ring.pending(), tx: this.#out.staged, completing: 0 };
  }

  enumerate(visit: (address: number) => void): void {
    const { ring } = this.#in;
    const count = ring.pending();
    for (let i = 0; i < count; i++) visit(this.#words[ring.slot(i)]! & this.#mask);
  }

  detach(): void {}
}

/** The coordinator's end: there is nothing behind it. */
export class LoopDevice implements PathDevice {
  readonly description: PathDescription;
  readonly holdings = {};
  changed = (): void => {};
  readonly #memory: Memory;
  readonly #port: number;
  readonly #path: PathId;

  constructor(memory: Memory, port: number, path: PathId, name: string) {
    this.#memory = memory;
    this.#port = port;
    this.#path = path;
    this.description = { driver: 'memory', device: name, mode: 'loop in memory', tie: 'memory' };
  }

  open(): void {
    const { words, layout } = this.#memory;
    limitLength(this.#memory, this.#port, this.#path, roomOf(layout.geometry.frameSize));
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      const slot = layout.slot(this.#port, queue, this.#path);
      const at = layout.ring(this.#port, queue, this.#path, Ring.TX) >> 2;
      words.fill(0, at, at + (layout.ringRoom(Ring.TX) >> 2));
      const geometry = (slot + PathSlot.xsk + Xsk.ring + Ring.TX * 24) >> 2;
      words[geometry] = OWN_RING.producer;
      words[geometry + 1] = OWN_RING.consumer;
      words[geometry + 2] = OWN_RING.flags;
      words[geometry + 3] = OWN_RING.desc;
      words[(slot + PathSlot.xsk + Xsk.ringEntries + Ring.TX * 4) >> 2] = layout.geometry.ringEntries;
      words[(slot + PathSlot.fd) >> 2] = -1;
      words[(slot + PathSlot.staged) >> 2] = 0;
      words[(slot + PathSlot.giving) >> 2] = 0;
      words[(slot + PathSlot.reader) >> 2] = Reader.NONE;
      Atomics.store(words, (slot + PathSlot.driver) >> 2, Driver.LOOP);
    }
  }

  arm(): void {}

  disarm(): void {}

  close(): void {
    const { words, layout } = this.#memory;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      const slot = layout.slot(this.#port, queue, this.#path);
      Atomics.store(words, (slot + PathSlot.driver) >> 2, Driver.CLOSED);
    }
  }

  dropped(_queue: number): Record<KernelCounter, number> {
    return NOTHING_DROPPED;
  }
}
