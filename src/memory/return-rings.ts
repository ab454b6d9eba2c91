/**
 * Return rings: frames on their way back to the worker of their pool. One ring for each ordered pair of workers; it has
 * room for all frames of the receiver, so it is never full. Belongs to one worker thread.
 *
 * Owners are written as for handoff rings, so that a death loses no frame: see handoff.ts.
 */
import { codeOf, FrameOwner, returnOwner } from './bit-fields.ts';
import { Consumer, Producer, placeAt } from './ring.ts';
import type { Memory } from './shared.ts';

/** Both ends of the return rings of one worker. */
export class ReturnRings {
  /** The workers to which the last `flush` published frames: as many as it returned. */
  readonly served: Int32Array;
  readonly #words: Int32Array;
  readonly #owners: Uint16Array;
  readonly #shift: number;
  readonly #from: number;
  readonly #out: (Producer | undefined)[] = [];
  readonly #in: Consumer[] = [];
  readonly #staged: Int32Array;
  #dirty = false;

  constructor(memory: Memory, owners: Uint16Array, queue: number) {
    const { layout, words } = memory;
    const { queues, frameSize } = layout.geometry;
    this.#words = words;
    this.#owners = owners;
    this.#shift = 31 - Math.clz32(frameSize);
    this.#from = queue;
    this.#staged = new Int32Array(queues);
    this.served = new Int32Array(queues);
    for (let other = 0; other < queues; other++) {
      const mine = other === queue;
      const to = mine ? undefined : placeAt(layout.returnRing(queue, other), layout.returnEntries, 1);
      this.#out.push(to && new Producer(words, to));
      if (!mine) {
        this.#in.push(new Consumer(words, placeAt(layout.returnRing(other, queue), layout.returnEntries, 1)));
      }
    }
  }

  /** Stages a frame for the worker `to`. There is always room. */
  send(index: number, to: number): void {
    const ring = this.#out[to]!;
    const staged = this.#staged[to]!;
    this.#words[ring.slot(staged)] = index << this.#shift;
    this.#owners[index] = returnOwner(this.#from, to);
    this.#staged[to] = staged + 1;
    this.#dirty = true;
  }

  /** Publishes the staged frames. Returns for how many workers: the first of {@link served}. */
  flush(): number {
    if (!this.#dirty) return 0;
    this.#dirty = false;
    let served = 0;
    for (let to = 0; to < this.#staged.length; to++) {
      const count = this.#staged[to]!;
      if (count === 0) continue;
      const ring = this.#out[to]!;
      ring.reserve(count); // never fails; reloads the cached cursor
      ring.commit(count);
      this.#staged[to] = 0;
      this.served[served++] = to;
    }
    return served;
  }

  /** Frees each frame that has come home. */
  collect(free: (address: number) => void): void {
    for (const ring of this.#in) {
      const count = ring.peek(ring.entries);
      if (count === 0) continue;
      for (let i = 0; i < count; i++) free(this.#words[ring.slot(i)]!);
      ring.release(count);
    }
  }

  /** Releases entries whose frames a dead worker had already freed: their owner is another one. */
  passOver(): void {
    for (const ring of this.#in) {
      while (ring.peek(1) === 1) {
        const owner = this.#owners[this.#words[ring.slot(0)]! >>> this.#shift]!;
        if (codeOf(owner) === FrameOwner.RETURN) break;
        ring.release(1);
      }
    }
  }

  /** Visits every frame that is published for others. */
  enumerate(visit: (address: number) => void): void {
    for (const ring of this.#out) {
      if (ring === undefined) continue;
      const count = ring.pending();
      for (let i = 0; i < count; i++) visit(this.#words[ring.pendingSlot(i)]!);
    }
  }
}
