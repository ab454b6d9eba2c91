/**
 * The frame pool of one worker, and the ledger that always adds up.
 *
 * A frame is named by its address: bytes from the start of the frames, the way the kernel's
 * descriptors name it. Free frames lie on a stack. Every frame has a holder byte that says to whom it
 * was given: NONE while it is free, FILL or TX of a path from the moment it is offered to that path
 * until it is freed or offered elsewhere, HAND while a handler builds a packet in it. Whoever takes a
 * frame passes it on or frees it.
 *
 * A worker may die between any two statements. So frames leave the stack after they were published
 * elsewhere, and rings are released after the frames read from them were passed on: a death in between
 * leaves a frame in two places, never in none, and {@link FramePool.recover} knows which one counts.
 *
 * Belongs to the worker thread.
 */
import { type PathId, WorkerBlock } from './layout.ts';
import type { Memory } from './shared.ts';

/** To whom a frame was given: NONE, HAND, or FILL or TX of a path, see {@link holderTag}. */
export const Holder = { NONE: 0, HAND: 1, FILL: 4, TX: 8 } as const;

/** FILL and TX together: the bits of a holder byte that say for what a path has the frame. */
const PURPOSE = Holder.FILL | Holder.TX;

/** Names one path of one port in a holder byte, beside FILL or TX: `port << 4 | path`. */
export function holderTag(port: number, path: PathId): number {
  return (port << 4) | path;
}

/** A path queue's share of the frames, by place; computed from ring cursors alone. */
export interface PathLedger {
  /** Offered to the kernel for packets to come. */
  fill: number;
  /** Filled, and not yet received. */
  rx: number;
  /** Given to the kernel to send. */
  tx: number;
  /** Sent, and not yet taken back. */
  completing: number;
}

/** What can name the frames that lie in its rings: a path queue. */
export interface FrameHolder {
  /** See {@link holderTag}. */
  readonly tag: number;
  /**
   * Looks at the rings that frames come by before those they leave by: one that the other side moves
   * meanwhile is left out. It is named twice only between two stores of the other side, which publishes the
   * arrival first (net/xdp/xsk.c, xsk_flush).
   */
  enumerate(visit: (address: number) => void): void;
}

/** Looks at rings of which the other side may be between two stores. */
const LOOKS = 8;

export class FramePool {
  readonly total: number;
  readonly frameSize: number;
  readonly #words: Int32Array;
  readonly #holders: Uint8Array;
  readonly #stack: number;
  readonly #countAt: number;
  readonly #first: number;
  readonly #shift: number;
  #count: number;

  constructor(memory: Memory, queue: number) {
    const { layout, words, buffer } = memory;
    const { frameSize, framesPerWorker, queues } = layout.geometry;
    this.total = framesPerWorker;
    this.frameSize = frameSize;
    this.#words = words;
    this.#holders = new Uint8Array(buffer, layout.holders, queues * framesPerWorker);
    this.#stack = layout.poolStack(queue) >> 2;
    this.#countAt = (layout.worker(queue) + WorkerBlock.poolCount) >> 2;
    this.#first = queue * framesPerWorker * frameSize;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#count = words[this.#countAt]!;
  }

  /** Free frames. */
  get count(): number {
    return this.#count;
  }

  /** Address of the i-th frame from the top, which stays on the stack until {@link remove}. */
  peek(i: number): number {
    return this.#words[this.#stack + this.#count - 1 - i]!;
  }

  /** Takes the `count` top frames off the stack: after they were published elsewhere. */
  remove(count: number): void {
    this.#count -= count;
    this.#words[this.#countAt] = this.#count;
  }

  /** Frees the frame that holds `address`. */
  put(address: number): void {
    const index = address >>> this.#shift;
    const count = this.#count;
    this.#holders[index] = Holder.NONE;
    this.#words[this.#stack + count] = index << this.#shift;
    this.#count = count + 1;
    this.#words[this.#countAt] = count + 1;
  }

  /** Notes to whom the frame goes: before it is published there. */
  give(address: number, holder: number): void {
    this.#holders[address >>> this.#shift] = holder;
  }

  holder(address: number): number {
    return this.#holders[address >>> this.#shift]!;
  }

  /**
   * Frees every frame the path `tag` still held when its kernel objects went: empty ones, and those that
   * were to be sent, of which nobody knows whether they were. For path changes only: looks at all.
   */
  reclaim(tag: number): { fill: number; tx: number } {
    const found = { fill: 0, tx: 0 };
    for (let i = 0; i < this.total; i++) {
      const address = this.#first + (i << this.#shift);
      const holder = this.holder(address);
      if (holder === (Holder.FILL | tag)) found.fill++;
      else if (holder === (Holder.TX | tag)) found.tx++;
      else continue;
      this.put(address);
    }
    return found;
  }

  /** Frames of paths that are no longer polled and not yet reclaimed. Looks at all: for audits only. */
  leaving(paths: readonly FrameHolder[]): { fill: number; tx: number } {
    const polled = new Set(paths.map((path) => path.tag));
    const found = { fill: 0, tx: 0 };
    for (let i = 0; i < this.total; i++) {
      const holder = this.holder(this.#first + (i << this.#shift));
      if (polled.has(holder & ~PURPOSE)) continue;
      if ((holder & PURPOSE) === Holder.FILL) found.fill++;
      else if ((holder & PURPOSE) === Holder.TX) found.tx++;
    }
    return found;
  }

  /**
   * Builds the stack anew, when a worker starts: the pool is new (all frames are free), or its last
   * worker died at some point.
   *
   * @param paths the attached path queues, whose rings can be read
   * @param held tags of paths whose kernel objects live although their rings are no longer read
   */
  recover(paths: readonly FrameHolder[], held: readonly number[] = []): void {
    const stacked = new Uint8Array(this.total);
    for (let i = 0; i < this.#count; i++) stacked[this.#index(this.peek(i))] = 1;
    const ringed = this.#ringed(paths);
    this.#ringed(paths).forEach((times, i) => {
      ringed[i]! += times; // the second look finds what moved during the first
    });
    const alive = new Set([...paths.map((path) => path.tag), ...held]);
    this.#count = 0;
    for (let i = 0; i < this.total; i++) {
      if (ringed[i]) continue;
      const address = this.#first + (i << this.#shift);
      const holder = this.holder(address);
      const away = (holder & PURPOSE) !== 0 && alive.has(holder & ~PURPOSE);
      if (away && !stacked[i]) continue; // inside the kernel; on the stack it was never published
      this.put(address);
    }
    this.#words[this.#countAt] = this.#count;
  }

  /** Frames found twice, on the stack or in rings. 0 at every burst boundary. */
  duplicates(paths: readonly FrameHolder[]): number {
    let fewest = Number.POSITIVE_INFINITY;
    for (let look = 0; look < LOOKS && fewest > 0; look++) fewest = Math.min(fewest, this.#twice(paths));
    return fewest;
  }

  #twice(paths: readonly FrameHolder[]): number {
    const ringed = this.#ringed(paths);
    let twice = 0;
    for (const times of ringed) if (times > 1) twice++;
    for (let i = 0; i < this.#count; i++) if (ringed[this.#index(this.peek(i))]!++) twice++;
    return twice;
  }

  #ringed(paths: readonly FrameHolder[]): Uint8Array {
    const times = new Uint8Array(this.total);
    for (const path of paths) path.enumerate((address) => times[this.#index(address)]!++);
    return times;
  }

  #index(address: number): number {
    return (address - this.#first) >> this.#shift;
  }
}
