/**
 * A path whose other end is itself: a queue receives the packets that it sends. It has one ring of AF_XDP's descriptors, and
 * the worker is the producer and the consumer; only a verdict removes a frame. It is for measuring and testing a datapath
 * without a peer: handlers start the circulating packets with `burst.send`.
 *
 * The path owns a frame in the ring (TX), and keeps it while it is received and sent again. So after a worker's death an
 * entry counts only if the path still owns its frame and no later entry has the same frame.
 */

import { FrameOwner, ownerTag } from '../../memory/bit-fields.ts';
import { type KernelCounter, NOTHING_DROPPED } from '../../memory/counters.ts';
import type { PathLedger } from '../../memory/frame-owners.ts';
import type { FramePool } from '../../memory/frames.ts';
import { Driver, IN_PLACE_BURST, type PathId, type QueueAddress, Reader, Ring } from '../../memory/layout.ts';
import { layOwnRings } from '../../memory/requests.ts';
import { ringOperationsOf } from '../../memory/ring-operations.ts';
import { keepUnhandled } from '../../memory/ring-recovery.ts';
import type { Memory } from '../../memory/shared.ts';
import { maxPacketBytes } from '../../net/packet-size.ts';
import type { AttachedPath, AttachedTransmitter } from '../attached-path.ts';
import { ReceiveRing } from '../descriptor-rings.ts';
import type { PathDescription, PathDevice } from '../device.ts';
import { InPlaceRings } from '../in-place-rings.ts';
import { limitSentBytes } from '../packet-limit.ts';
import { ResumableRing } from '../transmit-recovery.ts';

/** A published packet has arrived. */
class LoopTransmitter extends ResumableRing implements AttachedTransmitter {
  readonly backlog = false;

  flush(): number {
    const count = this.publish();
    if (count > 0) this.doubles[this.counter.txPackets]! += count;
    return 0;
  }

  complete(): void {}

  reclaimUnsent(): number {
    this.flush();
    return 0;
  }

  /** After a worker's death: sends the packets it had staged. */
  recover(): void {
    this.doubles[this.counter.txPackets]! += this.resume();
  }
}

/** The worker's end. */
export class LoopQueue implements AttachedPath {
  readonly path: PathId;
  readonly tag: number;
  readonly fd = -1;
  readonly rx: ReceiveRing;
  readonly tx: LoopTransmitter;
  readonly inPlace: InPlaceRings;
  readonly #words: Int32Array;
  readonly #mask: number;

  /** @param ringOps for tests: not the thread's */
  constructor(memory: Memory, pool: FramePool, address: QueueAddress, ringOps = ringOperationsOf(memory)) {
    const { port, queue, path } = address;
    this.path = path;
    this.tag = ownerTag(queue, port, path);
    this.#words = memory.words;
    this.#mask = -pool.frameSize;
    this.tx = new LoopTransmitter(memory, pool, address, ringOps);
    this.tx.recover();
    this.rx = new ReceiveRing(memory, address, Ring.TX, ringOps);
    const { ring } = this.rx;
    const taken = ring.peek(IN_PLACE_BURST);
    keepUnhandled(memory.words, ring, 4, pool, FrameOwner.TX | this.tag, taken, ring.pending());
    this.inPlace = new InPlaceRings(memory, address, this.rx, this.tx);
  }

  refill(): void {}

  ledger(): PathLedger {
    return { fill: 0, rx: this.rx.ring.pending(), tx: this.tx.staged, completing: 0 };
  }

  enumerate(visit: (address: number) => void): void {
    const { ring } = this.rx;
    const count = ring.pending();
    for (let i = 0; i < count; i++) visit(this.#words[ring.slot(i)]! & this.#mask);
  }

  detach(): void {}
}

/** The coordinator's end, without a device. */
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
    this.description = { driver: 'memory', device: name, mode: 'loop in memory', redirect: 'memory' };
  }

  open(): void {
    const memory = this.#memory;
    const { queues, frameSize } = memory.layout.geometry;
    limitSentBytes(memory, this.#port, this.#path, maxPacketBytes(frameSize));
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
