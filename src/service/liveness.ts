/**
 * Whether the threads of ports that were opened together still move: the coordinator, which checks everything twice a second,
 * and each queue's worker, which does its housekeeping several times a second even if it has no packets. Reads two kinds of
 * words of the shared memory and asks no thread. Any thread.
 */
import type { SharedMemory } from '../memory/geometry.ts';
import { Memory } from '../memory/shared.ts';

export class Liveness {
  readonly #memory: Memory;
  readonly #words: readonly number[];
  readonly #seen: Int32Array;

  /** @param shared of a port, which stands for all that were opened with it */
  constructor(shared: SharedMemory) {
    this.#memory = Memory.attach(shared);
    const { control, workers } = this.#memory;
    this.#words = [control.at('checks'), ...workers.map((worker) => worker.at('turns'))];
    this.#seen = new Int32Array(this.#words.length);
    this.mark();
  }

  /** From now on, {@link hanging} compares with the present. */
  mark(): void {
    for (const [i, at] of this.#words.entries()) this.#seen[i] = Atomics.load(this.#memory.words, at);
  }

  /** The threads that have not moved since the last {@link mark}: 'the coordinator', 'the worker of queue 1'. */
  hanging(): string[] {
    const still = this.#words.map((at, i) => Atomics.load(this.#memory.words, at) === this.#seen[i]);
    return still.flatMap((hangs, i) =>
      hangs ? [i === 0 ? 'the coordinator' : `the worker of queue ${i - 1}`] : [],
    );
  }
}
