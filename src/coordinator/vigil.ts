/**
 * Looks after handlers that do not return: a worker whose beat stands still while it is in its handler.
 *
 * Coordinator thread only. The thread is ended and the next worker drops what that one had in hand, since it
 * would not return from it either; see datapath/takeover.ts.
 */
import { WorkerBlock } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';

/** Looks in the time after which a worker counts as stuck. */
const LOOKS = 4;

export class Vigil {
  readonly periodMillis: number;
  readonly #memory: Memory;
  readonly #stuck: (queue: number) => void;
  /** Per queue: the beat seen last, and how many looks it has stood still in a handler. */
  readonly #beats: Int32Array;
  readonly #still: Int32Array;

  constructor(memory: Memory, stuckMillis: number, stuck: (queue: number) => void) {
    const { queues } = memory.layout.geometry;
    this.periodMillis = Math.ceil(stuckMillis / LOOKS);
    this.#memory = memory;
    this.#stuck = stuck;
    this.#beats = new Int32Array(queues).fill(-1);
    this.#still = new Int32Array(queues);
  }

  /** @param polls whether the queue has a worker that has started: what a dead one left behind is no sign */
  look(polls: (queue: number) => boolean): void {
    const { words, layout } = this.#memory;
    for (let queue = 0; queue < this.#beats.length; queue++) {
      const block = layout.worker(queue);
      const beat = Atomics.load(words, (block + WorkerBlock.beat) >> 2);
      const handling = Atomics.load(words, (block + WorkerBlock.handling) >> 2) !== 0;
      const still = handling && beat === this.#beats[queue] && polls(queue);
      this.#beats[queue] = beat;
      this.#still[queue] = still ? this.#still[queue]! + 1 : 0;
      if (this.#still[queue]! < LOOKS) continue;
      this.#still[queue] = 0;
      Atomics.store(words, (block + WorkerBlock.stuck) >> 2, 1);
      this.#stuck(queue);
    }
  }
}
