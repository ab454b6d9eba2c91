/**
 * A path queue over four rings of AF_XDP's shape whose other end is a thread: the memory path. That thread reads the
 * transmit ring without a kick; af-xdp/transmit.ts adds what a kernel needs. Belongs to the worker thread.
 */
import { FrameOwner, ownerTag } from '../memory/bit-fields.ts';
import type { PathLedger } from '../memory/frame-owners.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM, type PathId, type QueueAddress, Ring } from '../memory/layout.ts';
import { METADATA_BYTES, MetadataField } from '../memory/metadata.ts';
import { ringPlace } from '../memory/requests.ts';
import { Producer } from '../memory/ring.ts';
import type { Memory } from '../memory/shared.ts';
import type { AttachedPath, AttachedTransmitter } from './attached-path.ts';
import { ReceiveRing } from './descriptor-rings.ts';
import { InPlaceRings } from './in-place-rings.ts';
import { ReclaimableRing } from './transmit-recovery.ts';

/** Refill in batches: one release per this many frames, and the kernel never runs dry meanwhile. */
const REFILL = 32;

/** With less than one in so many of its entries a fill ring runs low. Up to there it gets every frame that is free. */
const LOW = 4;

/** Completions taken back at once. */
export const COMPLETE = 256;

export class RingTransmitter extends ReclaimableRing implements AttachedTransmitter {
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

  /** Takes back all completed frames: when the rings go, it is unknown whether the others were sent. */
  completeAll(): void {
    for (let left = this.completion.entries; left > 0 && this.completion.pending() > 0; left -= COMPLETE) {
      this.complete();
    }
  }
}

export class RingQueue<Tx extends RingTransmitter = RingTransmitter> implements AttachedPath {
  readonly path: PathId;
  readonly tag: number;
  readonly fd: number;
  readonly rx: ReceiveRing;
  readonly tx: Tx;
  readonly inPlace: InPlaceRings | undefined;
  protected readonly fill: Producer;
  readonly #words: Int32Array;
  readonly #pool: FramePool;
  /** Whether an earlier packet's metadata are cleared: a driver may write none. */
  readonly #clearsMarks: boolean;
  readonly #marksAt: number;

  constructor(
    memory: Memory,
    pool: FramePool,
    address: QueueAddress,
    tx: Tx,
    rx = new ReceiveRing(memory, address),
  ) {
    const { words } = memory;
    this.path = address.path;
    this.tag = ownerTag(address.queue, address.port, address.path);
    this.fd = memory.slot(address).fd;
    this.rx = rx;
    this.tx = tx;
    this.inPlace = new InPlaceRings(memory, address, this.rx, tx);
    this.fill = new Producer(words, ringPlace(memory, address, Ring.FILL));
    this.#words = words;
    this.#pool = pool;
    this.#clearsMarks = memory.slot(address).metadata === 1;
    this.#marksAt = memory.layout.frames + HEADROOM - METADATA_BYTES + MetadataField.MARK;
    tx.recover();
    rx.recover(words, pool, FrameOwner.FILL | this.tag);
  }

  refill(): void {
    const away = (this.fill.cursor - this.rx.ring.cursor) | 0;
    const lacking = this.fill.entries - away;
    if (lacking < REFILL) return;
    const words = this.#words;
    const pool = this.#pool;
    const free = Math.max(pool.count - pool.spare, Math.min(pool.count, this.fill.entries / LOW - away));
    if (free <= 0) return;
    const count = Math.min(this.fill.reserve(lacking), free);
    if (count <= 0) return;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(i);
      const slot = this.fill.slot(i);
      words[slot] = address;
      words[slot + 1] = 0;
      pool.setOwner(address, FrameOwner.FILL | this.tag);
      if (this.#clearsMarks) words[(this.#marksAt + address) >> 2] = 0;
    }
    this.fill.commit(count);
    pool.remove(count);
  }

  ledger(): PathLedger {
    const slots = this.rx.ring.pending();
    const rx = this.rx.frames(slots);
    const { completing, inFlight } = this.tx;
    const fill = ((this.fill.cursor - this.rx.ring.cursor) | 0) - slots;
    return { fill, rx, tx: inFlight - completing, completing };
  }

  enumerate(visit: (address: number) => void): void {
    const words = this.#words;
    const mask = -this.#pool.frameSize;
    const each = (address: number): void => visit(address & mask);
    const { fill } = this;
    this.rx.eachFrame(words, each);
    this.tx.eachCompleted(each);
    const offered = fill.pending();
    for (let i = 0; i < offered; i++) each(words[fill.pendingSlot(i)]!);
    this.tx.eachUnsent(each);
  }

  detach(): void {
    this.tx.completeAll();
  }
}
