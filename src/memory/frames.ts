/**
 * The frame pool of one worker, and the ledger that always adds up.
 *
 * A frame is named by its address: bytes from the start of the frames, the way the kernel's
 * descriptors name it. Free frames lie on a stack. Every frame has an owner that says to whom it was
 * given, see frame-owner.ts. Whoever takes a frame passes it on or frees it.
 *
 * Each frame is of one worker's pool for good. A packet may be handed to another worker and leave by
 * that one's path; then its frame comes back by a return ring. So `put` of a foreign frame sends it home.
 *
 * A worker may die between any two statements. So frames leave the stack after they were published
 * elsewhere, and rings are released after the frames read from them were passed on: a death in between
 * leaves a frame in two places, never in none, and {@link FramePool.recover} knows which one counts.
 *
 * Belongs to the worker thread.
 */
import { codeOf, FrameOwner, handOwner, purposeOf, tagOf, tagQueue, workerOf } from './frame-owner.ts';
import { ReturnRings } from './return-rings.ts';
import type { Memory } from './shared.ts';

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

/** What can name the frames that lie in its rings. */
export interface Enumerable {
  enumerate(visit: (address: number) => void): void;
}

/** A path queue, as the pool sees it. */
export interface FrameUser extends Enumerable {
  /** See {@link ownerTag}. */
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

/** Free frames below which a sleeping worker wants to be woken when some come home. */
const FEW_FRAMES = 512;

export class FramePool {
  /** Frames of this worker. */
  readonly total: number;
  readonly frameSize: number;
  /** What a frame is given to while this worker has it in hand. */
  readonly hand: number;
  readonly #words: Int32Array;
  readonly #owners: Uint16Array;
  readonly #stack: number;
  readonly #countAt: number;
  readonly #lowOnFramesAt: number;
  readonly #queue: number;
  /** Number of this worker's first frame among all. */
  readonly #first: number;
  readonly #shift: number;
  readonly #home: ReturnRings | undefined;
  readonly #free = (address: number): void => this.put(address);
  #count: number;

  constructor(memory: Memory, queue: number) {
    const { layout, words, buffer } = memory;
    const { frameSize, framesPerWorker, queues } = layout.geometry;
    this.total = framesPerWorker;
    this.frameSize = frameSize;
    this.hand = handOwner(queue);
    this.#words = words;
    this.#owners = new Uint16Array(buffer, layout.owners, queues * framesPerWorker);
    this.#stack = layout.poolStack(queue) >> 2;
    this.#countAt = memory.workers[queue]!.at('poolCount');
    this.#lowOnFramesAt = memory.workers[queue]!.at('lowOnFrames');
    this.#queue = queue;
    this.#first = queue * framesPerWorker;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#home = queues > 1 ? new ReturnRings(memory, this.#owners, queue) : undefined;
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

  /** Frees the frame that holds `address`; a frame of another worker is sent home. */
  put(address: number): void {
    const index = address >>> this.#shift;
    if ((index - this.#first) >>> 0 >= this.total) {
      this.#home!.send(index, (index / this.total) | 0);
      return;
    }
    const count = this.#count;
    this.#owners[index] = FrameOwner.NONE;
    this.#words[this.#stack + count] = index << this.#shift;
    this.#count = count + 1;
    this.#words[this.#countAt] = count + 1;
  }

  /** Notes to whom the frame goes: before it is published there. */
  setOwner(address: number, owner: number): void {
    this.#owners[address >>> this.#shift] = owner;
  }

  ownerOf(address: number): number {
    return this.#owners[address >>> this.#shift]!;
  }

  /** Takes back the frames that other workers have sent home. */
  collect(): void {
    this.#home?.collect(this.#free);
  }

  /**
   * Sends foreign frames home that were freed since the last call: once the rings they came by are released,
   * or a frame could be in one handoff ring twice. Returns how many workers got some: see {@link served}.
   */
  flush(): number {
    return this.#home === undefined ? 0 : this.#home.flush();
  }

  /** The workers to which the last {@link flush} sent frames. */
  get served(): Int32Array | undefined {
    return this.#home?.served;
  }

  /** Says whether frames that come home should wake this worker. Before it sleeps. */
  announce(): void {
    this.#words[this.#lowOnFramesAt] = this.#count < FEW_FRAMES ? 1 : 0;
  }

  /**
   * Frees every frame the path `tag` still held when its kernel objects went: empty ones, and those that
   * were to be sent, of which nobody knows whether they were. For path changes only: looks at all.
   */
  reclaim(tag: number): { fill: number; tx: number } {
    const found = { fill: 0, tx: 0 };
    this.#each((address, owner) => {
      if (owner === (FrameOwner.FILL | tag)) found.fill++;
      else if (owner === (FrameOwner.TX | tag)) found.tx++;
      else return;
      this.put(address);
    });
    return found;
  }

  /** How many frames have that owner. Looks at all: for audits only. */
  countOwnedBy(owner: number): number {
    let count = 0;
    this.#each((_, other) => {
      if (other === owner) count++;
    });
    return count;
  }

  /** Frames of paths that are no longer polled and not yet reclaimed. Looks at all: for audits only. */
  leaving(paths: readonly FrameUser[]): { fill: number; tx: number } {
    const polled = new Set(paths.map((path) => path.tag));
    const found = { fill: 0, tx: 0 };
    this.#each((_, owner) => {
      const purpose = purposeOf(owner);
      if (purpose === 0 || tagQueue(tagOf(owner)) !== this.#queue || polled.has(tagOf(owner))) return;
      if (purpose === FrameOwner.FILL) found.fill++;
      else found.tx++;
    });
    return found;
  }

  /**
   * Frames of this worker that others have, and frames of others at this worker's paths. Others move theirs
   * meanwhile, but only this worker can change whether a frame counts. Looks at all: for audits only.
   */
  exchanged(): { lent: number; borrowed: number } {
    const found = { lent: 0, borrowed: 0 };
    this.#each((_, owner, own) => {
      const here = purposeOf(owner) !== 0 && tagQueue(tagOf(owner)) === this.#queue;
      if (own && this.#isLent(owner)) found.lent++;
      else if (!own && here) found.borrowed++;
    });
    return found;
  }

  /**
   * Builds the stack anew, when a worker starts: the pool is new (all frames are free), or its last
   * worker died at some point.
   *
   * @param paths the attached path queues, whose rings can be read
   * @param held tags of paths whose kernel objects live although their rings are no longer read
   * @param handoffs the handoff rings out of this worker
   * @param lost told of each frame that was with a path or in a handoff ring and is nowhere to be found there: its owner
   */
  recover(
    paths: readonly FrameUser[],
    held: readonly number[] = [],
    handoffs: readonly Enumerable[] = [],
    lost: (owner: number) => void = () => {},
  ): void {
    const stacked = new Uint8Array(this.total);
    for (let i = 0; i < this.#count; i++) stacked[(this.peek(i) >>> this.#shift) - this.#first] = 1;
    const ringed = this.#ringed(paths);
    this.#ringed(paths).forEach((times, i) => {
      ringed[i]! += times; // the second look finds what moved during the first
    });
    const handedOver = this.#ringed(this.#home === undefined ? handoffs : [...handoffs, this.#home]);
    const alive = new Set([...paths.map((path) => path.tag), ...held]);
    this.#home?.passOver();
    this.#count = 0;
    this.#each((address, owner, own) => {
      const index = address >>> this.#shift;
      if (ringed[index]) return;
      if (purposeOf(owner) !== 0) {
        const tag = tagOf(owner);
        if (tagQueue(tag) !== this.#queue) return;
        // Inside the kernel; but on the stack it was never published.
        if (alive.has(tag) && !(own && stacked[index - this.#first])) return;
      } else {
        const code = codeOf(owner);
        const mine = workerOf(owner) === this.#queue;
        if (code === FrameOwner.NONE ? !own : !mine) return;
        if (handedOver[index]) return; // else it was put into a handoff ring and never published there
      }
      if (!(own && stacked[index - this.#first])) lost(owner);
      this.put(address);
    });
    this.#words[this.#countAt] = this.#count;
  }

  /** Frames found twice, on the stack or in rings. 0 at every burst boundary. */
  duplicates(paths: readonly FrameUser[]): number {
    let fewest = Number.POSITIVE_INFINITY;
    for (let look = 0; look < LOOKS && fewest > 0; look++) fewest = Math.min(fewest, this.#twice(paths));
    return fewest;
  }

  #twice(paths: readonly FrameUser[]): number {
    const ringed = this.#ringed(paths);
    let twice = 0;
    for (const times of ringed) if (times > 1) twice++;
    for (let i = 0; i < this.#count; i++) if (ringed[this.peek(i) >>> this.#shift]!++) twice++;
    return twice;
  }

  #ringed(places: readonly Enumerable[]): Uint8Array {
    const times = new Uint8Array(this.#owners.length);
    for (const place of places) place.enumerate((address) => times[address >>> this.#shift]!++);
    return times;
  }

  /** A frame of ours that another worker has, or that is in a handoff ring. */
  #isLent(owner: number): boolean {
    if (purposeOf(owner) !== 0) return tagQueue(tagOf(owner)) !== this.#queue;
    const code = codeOf(owner);
    if (code === FrameOwner.HAND) return workerOf(owner) !== this.#queue;
    return code === FrameOwner.HANDOFF || code === FrameOwner.RETURN;
  }

  #each(visit: (address: number, owner: number, own: boolean) => void): void {
    for (let index = 0; index < this.#owners.length; index++) {
      const own = (index - this.#first) >>> 0 < this.total;
      visit(index << this.#shift, this.#owners[index]!, own);
    }
  }
}
