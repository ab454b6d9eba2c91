/**
 * The owners of all frames. Every call looks at all of them, so they are for the start of a worker, path changes and audits.
 *
 * Belongs to the worker thread.
 */
import { codeOf, FrameOwner, purposeOf, tagOf, tagQueue, workerOf } from './bit-fields.ts';
import type { ReturnRings } from './return-rings.ts';

/** Names the frames in its rings. */
export interface Enumerable {
  enumerate(visit: (address: number) => void): void;
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

/** A path queue, to the recovery and the audit of the pool. */
export interface FrameUser extends Enumerable {
  /** See `ownerTag` in bit-fields.ts. */
  readonly tag: number;
  /**
   * Reads the rings that frames come by before those they leave by, so a frame that the other side moves meanwhile is left
   * out. It is named twice only between two stores of the other side, which publishes the arrival first (net/xdp/xsk.c,
   * xsk_flush).
   */
  enumerate(visit: (address: number) => void): void;
}

/** The stack of free frames: a `FramePool`. */
interface Stack {
  readonly total: number;
  readonly frameSize: number;
  readonly count: number;
  peek(i: number): number;
  put(address: number): void;
  remove(count: number): void;
  clear(): void;
}

/** Attempts at rings whose other side may be between two stores. */
const LOOKS = 8;

export class FrameOwners {
  readonly #pool: Stack;
  readonly #owners: Uint16Array;
  readonly #queue: number;
  readonly #returns: ReturnRings | undefined;
  /** Number of this worker's first frame among all. */
  readonly #first: number;
  readonly #shift: number;

  constructor(pool: Stack, owners: Uint16Array, queue: number, returns: ReturnRings | undefined) {
    this.#pool = pool;
    this.#owners = owners;
    this.#queue = queue;
    this.#returns = returns;
    this.#first = queue * pool.total;
    this.#shift = 31 - Math.clz32(pool.frameSize);
  }

  /**
   * Builds the stack anew when a worker starts: the pool is new (all frames are free), or its last worker died.
   *
   * @param paths the attached path queues, whose rings can be read
   * @param held tags of paths whose kernel objects live although their rings are no longer read
   * @param handoffs the handoff rings out of this worker
   * @param lost called with the owner of each frame that was with a path or in a handoff ring and is not found there
   */
  recover(
    paths: readonly FrameUser[],
    held: readonly number[] = [],
    handoffs: readonly Enumerable[] = [],
    lost: (owner: number) => void = () => {},
  ): void {
    const pool = this.#pool;
    const stacked = new Uint8Array(pool.total);
    for (let i = 0; i < pool.count; i++) stacked[(pool.peek(i) >>> this.#shift) - this.#first] = 1;
    const ringed = this.#ringed(paths);
    this.#ringed(paths).forEach((times, i) => {
      ringed[i]! += times; // the second look finds what moved during the first
    });
    const returns = this.#returns;
    const handedOver = this.#ringed(returns === undefined ? handoffs : [...handoffs, returns]);
    const alive = new Set([...paths.map((path) => path.tag), ...held]);
    returns?.passOver();
    pool.clear();
    this.#each((address, owner, own) => {
      const index = address >>> this.#shift;
      if (ringed[index]) return;
      if (purposeOf(owner) !== 0) {
        const tag = tagOf(owner);
        if (tagQueue(tag) !== this.#queue) return;
        // Inside the kernel; but a frame on the stack was never published.
        if (alive.has(tag) && !(own && stacked[index - this.#first])) return;
      } else {
        const code = codeOf(owner);
        const mine = workerOf(owner) === this.#queue;
        if (code === FrameOwner.NONE ? !own : !mine) return;
        if (handedOver[index]) return; // else it was put into a handoff ring and never published there
      }
      if (!(own && stacked[index - this.#first])) lost(owner);
      pool.put(address);
    });
    pool.remove(0); // writes the count, also of an empty stack
  }

  /**
   * Frees every frame that the path `tag` still held when its kernel objects went: empty ones, and those that were to be
   * sent, of which it is unknown whether they were.
   */
  reclaim(tag: number): { fill: number; tx: number } {
    const found = { fill: 0, tx: 0 };
    this.#each((address, owner) => {
      if (owner === (FrameOwner.FILL | tag)) found.fill++;
      else if (owner === (FrameOwner.TX | tag)) found.tx++;
      else return;
      this.#pool.put(address);
    });
    return found;
  }

  /** How many frames have that owner. */
  countOwnedBy(owner: number): number {
    let count = 0;
    this.#each((_, other) => {
      if (other === owner) count++;
    });
    return count;
  }

  /** Frames of paths that are no longer polled and not yet reclaimed. */
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
   * Frames of this worker that others have, and frames of others at this worker's paths. Others move theirs meanwhile,
   * but only this worker can change whether a frame counts.
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

  /** Frames found twice, on the stack or in rings. 0 at every burst boundary. */
  duplicates(paths: readonly FrameUser[]): number {
    let fewest = Number.POSITIVE_INFINITY;
    for (let look = 0; look < LOOKS && fewest > 0; look++) fewest = Math.min(fewest, this.#twice(paths));
    return fewest;
  }

  #twice(paths: readonly FrameUser[]): number {
    const pool = this.#pool;
    const ringed = this.#ringed(paths);
    let twice = 0;
    for (const times of ringed) if (times > 1) twice++;
    for (let i = 0; i < pool.count; i++) if (ringed[pool.peek(i) >>> this.#shift]!++) twice++;
    return twice;
  }

  /** How often each frame is in those rings. */
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
      const own = (index - this.#first) >>> 0 < this.#pool.total;
      visit(index << this.#shift, this.#owners[index]!, own);
    }
  }
}
