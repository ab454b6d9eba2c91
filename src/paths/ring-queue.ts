/**
 * A path queue over four rings of AF_XDP's shape, whose other end is a thread: the memory path. It takes what is in the
 * transmit ring by itself. af-xdp/transmit.ts has what is more to it where the other end is a kernel.
 */

import { FrameOwner, ownerTag } from '../memory/frame-owner.ts';
import type { FramePool, PathLedger } from '../memory/frames.ts';
import { type PathId, type QueueAddress, Ring } from '../memory/layout.ts';
import { ringPlace } from '../memory/requests.ts';
import { Consumer, Producer } from '../memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { InPlaceRings } from './in-place-rings.ts';
import type { PathQueue, Transmitter } from './path.ts';
import { ReceiveRing } from './receive-ring.ts';
import { TransmitRing } from './transmit-ring.ts';

/** Refill in batches: one release per this many frames, and the kernel never runs dry meanwhile. */
const REFILL = 32;

/** Completions taken back at once. */
export const COMPLETE = 256;

/** The way out: frames that were sent come home by the completion ring. */
export class RingTransmitter extends TransmitRing implements Transmitter {
  backlog = false;
  protected readonly completion: Consumer;
  /** Index of the word before whose cursor all slots are consumed, if the reader has not said so yet. */
  protected readonly consumedAt: number;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    ringOps: RingOperations = ringOperationsOf(memory),
  ) {
    super(memory, pool, address, ringOps);
    this.completion = new Consumer(memory.words, ringPlace(memory, address, Ring.COMPLETION));
    this.consumedAt = memory.slot(address).at('consumed');
  }

  flush(): number {
    this.publish();
    if (this.backlog) this.backlog = this.unsent() > 0;
    return 0;
  }

  override publish(): number {
    const count = super.publish();
    if (count > 0) this.backlog = true;
    return count;
  }

  complete(): void {
    const count = this.completion.peek(COMPLETE);
    for (let i = 0; i < count; i++) this.pool.put(this.words[this.completion.slot(i)]!);
    if (count === 0) return;
    this.completion.release(count);
    this.doubles[this.counter.txPackets]! += count;
  }

  reclaimUnsent(visit: (offset: number, bytes: number) => void): number {
    this.publish(); // another port may have forwarded packets since the last flush
    const count = this.unsent();
    for (let i = 0; i < count; i++) {
      const slot = this.ring.slotAt(this.firstUnsent);
      visit(this.frames + this.words[slot]!, this.words[slot + 2]!);
      this.passOver(); // lest a worker that dies here have it taken back again
    }
    this.doubles[this.counter.txRescued]! += count;
    this.backlog = false;
    return count;
  }

  /** Packets pushed and not completed. */
  get inFlight(): number {
    return (this.end - this.completion.cursor) | 0;
  }

  /** Entries of the completion ring whose frames come home. */
  get completing(): number {
    return this.completion.pending();
  }

  eachCompleted(visit: (address: number) => void): void {
    const count = this.completion.pending();
    for (let i = 0; i < count; i++) visit(this.words[this.completion.slot(i)]!);
  }

  eachUnsent(visit: (address: number) => void): void {
    const count = this.unsent();
    for (let i = 0; i < count; i++) visit(this.words[this.ring.slotAt(this.firstUnsent + i)]!);
  }

  /** Takes back all that is completed: of what is left when the rings go, it is unknown whether it was sent. */
  completeAll(): void {
    for (let left = this.completion.entries; left > 0 && this.completion.pending() > 0; left -= COMPLETE) {
      this.complete();
    }
  }

  /**
   * After a worker's death: publishes the packets it had staged (they were decided), and passes over
   * ring entries whose frames it had already passed on, taken back or freed: they are no longer this path's.
   */
  recover(): void {
    this.passOverCompleted();
    this.resume();
    this.passOverSent();
    this.backlog = this.unsent() > 0;
  }

  protected passOverCompleted(): void {
    while (this.completion.peek(1) === 1) {
      if (this.pool.ownerOf(this.words[this.completion.slot(0)]!) === this.owner) break;
      this.completion.release(1);
    }
  }

  protected passOverSent(): void {
    const isHeld = (): boolean =>
      this.pool.ownerOf(this.words[this.ring.slotAt(this.firstUnsent)]!) === this.owner;
    while (this.unsent() > 0 && !isHeld()) this.passOver();
  }

  /** Published packets that the reader has not taken; where it does not say so, no fewer. */
  protected unsent(): number {
    const pending = this.ring.pending();
    const ahead = (this.words[this.consumedAt]! - this.ring.consumed) | 0;
    return ahead > 0 ? pending - ahead : pending;
  }

  /** Cursor of the oldest of them, as of the last {@link unsent}. */
  protected get firstUnsent(): number {
    const told = this.words[this.consumedAt]!;
    return ((told - this.ring.consumed) | 0) > 0 ? told : this.ring.consumed;
  }

  /** The oldest of them is not this path's any more. */
  protected passOver(): void {
    this.words[this.consumedAt] = (this.firstUnsent + 1) | 0;
  }
}

export class RingQueue<Tx extends RingTransmitter = RingTransmitter> implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly rx: ReceiveRing;
  readonly tx: Tx;
  readonly inPlace: InPlaceRings;
  protected readonly fill: Producer;
  readonly #words: Int32Array;
  readonly #pool: FramePool;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    tx: Tx,
    ringOps = ringOperationsOf(memory),
  ) {
    const { words } = memory;
    this.path = address.path;
    this.tag = ownerTag(address.queue, address.port, address.path);
    this.fd = memory.slot(address).fd;
    this.rx = new ReceiveRing(memory, address, Ring.RX, ringOps);
    this.tx = tx;
    this.inPlace = new InPlaceRings(memory, address, this.rx, tx);
    this.fill = new Producer(words, ringPlace(memory, address, Ring.FILL));
    this.#words = words;
    this.#pool = pool;
    tx.recover();
    this.rx.keepUnhandled(pool, FrameOwner.FILL | this.tag);
  }

  refill(): void {
    const away = (this.fill.cursor - this.rx.ring.cursor) | 0;
    const lacking = this.fill.entries - away;
    if (lacking < REFILL) return;
    const words = this.#words;
    const pool = this.#pool;
    const count = Math.min(this.fill.reserve(lacking), pool.count);
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const slot = this.fill.slot(i);
      words[slot] = address;
      words[slot + 1] = 0;
      pool.setOwner(address, FrameOwner.FILL | this.tag);
    }
    this.fill.commit(count);
    pool.remove(count);
  }

  ledger(): PathLedger {
    const rx = this.rx.ring.pending();
    const { completing, inFlight } = this.tx;
    return {
      fill: ((this.fill.cursor - this.rx.ring.cursor) | 0) - rx,
      rx,
      tx: inFlight - completing,
      completing,
    };
  }

  enumerate(visit: (address: number) => void): void {
    const words = this.#words;
    const mask = -this.#pool.frameSize;
    const each = (address: number): void => visit(address & mask);
    const { ring } = this.rx;
    const { fill } = this;
    const received = ring.pending();
    for (let i = 0; i < received; i++) each(words[ring.slot(i)]!);
    this.tx.eachCompleted(each);
    const offered = fill.pending();
    for (let i = 0; i < offered; i++) each(words[fill.pendingSlot(i)]!);
    this.tx.eachUnsent(each);
  }

  detach(): void {
    this.tx.completeAll();
  }
}
