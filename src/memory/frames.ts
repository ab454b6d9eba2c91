/**
 * The frame pool of one worker.
 *
 * A frame's name is its address: bytes from the start of the frames, as in the kernel's descriptors. Free frames are on a
 * stack. Each frame has exactly one owner, which transmits it, hands it over or frees it; an array has the owner of each,
 * see bit-fields.ts.
 *
 * A frame belongs to one worker's pool for good. A packet may be handed to another worker and leave by its path: then the
 * frame comes back by a return ring, where `put` sends a foreign frame.
 *
 * A worker may die between any two statements. So a frame leaves the stack after it was published elsewhere, and a ring
 * is released after the frames read from it have a new owner. A death in between leaves a frame in two places, never in
 * none; {@link FrameOwners.recover} decides which place counts.
 *
 * Belongs to the worker thread.
 */
import { FrameOwner, handOwner } from './bit-fields.ts';
import { FrameOwners } from './frame-owners.ts';
import { ReturnRings } from './return-rings.ts';
import type { Memory } from './shared.ts';

/** Free frames below which a sleeping worker wants a wake-up when some come home. */
const FEW_FRAMES = 512;

/** Of a pool's frames, one in so many is not lent to the application while no more are free. */
const RESERVE = 16;

export class FramePool {
  /** Frames of this worker. */
  readonly total: number;
  readonly frameSize: number;
  /** The application gets a frame while more than so many are free. */
  readonly reserve: number;
  /**
   * A fill ring that does not run low leaves so many: more than the {@link reserve}. Or full fill rings of both paths, which may be
   * all frames, would leave the application none.
   */
  readonly spare: number;
  /** The owner of frames that this worker has in hand. */
  readonly hand: number;
  /** For recovery, path changes and audits. */
  readonly owners: FrameOwners;
  readonly #words: Int32Array;
  readonly #owners: Uint16Array;
  readonly #stack: number;
  readonly #countAt: number;
  readonly #lowOnFramesAt: number;
  /** Number of this worker's first frame among all. */
  readonly #first: number;
  readonly #shift: number;
  readonly #returns: ReturnRings | undefined;
  readonly #free = (address: number): void => this.put(address);
  #count: number;

  constructor(memory: Memory, queue: number) {
    const { layout, words, buffer } = memory;
    const { frameSize, framesPerWorker, queues } = layout.geometry;
    this.total = framesPerWorker;
    this.frameSize = frameSize;
    this.reserve = framesPerWorker / RESERVE;
    this.spare = 2 * this.reserve;
    this.hand = handOwner(queue);
    this.#words = words;
    this.#owners = new Uint16Array(buffer, layout.owners, queues * framesPerWorker);
    this.#stack = layout.poolStack(queue) >> 2;
    this.#countAt = memory.workers[queue]!.at('poolCount');
    this.#lowOnFramesAt = memory.workers[queue]!.at('lowOnFrames');
    this.#first = queue * framesPerWorker;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#returns = queues > 1 ? new ReturnRings(memory, this.#owners, queue) : undefined;
    this.#count = words[this.#countAt]!;
    this.owners = new FrameOwners(this, this.#owners, queue, this.#returns);
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

  /** Frees the frame that holds `address`; sends a frame of another worker home. */
  put(address: number): void {
    const index = address >>> this.#shift;
    if ((index - this.#first) >>> 0 >= this.total) {
      this.#returns!.send(index, (index / this.total) | 0);
      return;
    }
    const count = this.#count;
    this.#owners[index] = FrameOwner.NONE;
    this.#words[this.#stack + count] = index << this.#shift;
    this.#count = count + 1;
    this.#words[this.#countAt] = count + 1;
  }

  /** Records the frame's next owner: before the frame is published there. */
  setOwner(address: number, owner: number): void {
    this.#owners[address >>> this.#shift] = owner;
  }

  ownerOf(address: number): number {
    return this.#owners[address >>> this.#shift]!;
  }

  /** Takes back the frames that other workers have sent home. */
  collect(): void {
    this.#returns?.collect(this.#free);
  }

  /**
   * Sends foreign frames home that were freed since the last call: once the rings they came by are released, or a frame
   * could be in one handoff ring twice. Returns to how many workers: see {@link served}.
   */
  flush(): number {
    return this.#returns === undefined ? 0 : this.#returns.flush();
  }

  /** The workers to which the last {@link flush} sent frames. */
  get served(): Int32Array | undefined {
    return this.#returns?.served;
  }

  /** Before a sleep: writes whether frames that come home should wake this worker. */
  announce(): void {
    this.#words[this.#lowOnFramesAt] = this.#count < FEW_FRAMES ? 1 : 0;
  }

  /** Empties the stack, which {@link FrameOwners.recover} fills again. */
  clear(): void {
    this.#count = 0;
  }
}
