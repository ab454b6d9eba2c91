/**
 * A path whose other end is itself: what a queue sends on it, the queue receives. One ring of AF_XDP's descriptors, of
 * which the worker is the producer and the consumer; frames never leave it but by a verdict. For measuring and testing a
 * datapath without a peer: handlers start the packets that circulate, by `burst.send`.
 *
 * A frame in the ring is given to the path (TX), and stays so while it is received and sent again. So after a worker's
 * death an entry counts only if its frame is still the path's and lies nowhere behind it in the ring.
 */
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
import { Driver, type PathId, type QueueAddress, Reader, Ring } from '../../memory/layout.ts';
import { layOwnRings, ringPlace } from '../../memory/requests.ts';
import type { Memory } from '../../memory/shared.ts';
import { limitLength, roomOf } from '../frame-room.ts';
import type { PathDescription, PathDevice, PathQueue } from '../path.ts';
import { ReceiveRing } from '../receive-ring.ts';
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
    const { words, doubles } = memory;
    const place = ringPlace(memory, address, Ring.TX);
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
    const memory = this.#memory;
    const { queues, frameSize } = memory.layout.geometry;
    limitLength(memory, this.#port, this.#path, roomOf(frameSize));
    for (let queue = 0; queue < queues; queue++) {
      const address = { port: this.#port, queue, path: this.#path };
      layOwnRings(memory, address);
      memory.slot(address).open(Driver.LOOP, { reader: Reader.NONE });
    }
  }

  arm(): void {}

  disarm(): void {}

  close(): void {
    const { queues } = this.#memory.layout.geometry;
    for (let queue = 0; queue < queues; queue++) {
      this.#memory.slot({ port: this.#port, queue, path: this.#path }).close();
    }
  }

  dropped(_queue: number): Record<KernelCounter, number> {
    return NOTHING_DROPPED;
  }
}
