/**
 * Looks after handlers that do not return: one whose call goes on over several looks.
 *
 * Supervisor's thread only. The handler's thread is ended and the next worker drops what that one had in hand, since it
 * would not return from it either; see datapath/takeover.ts.
 */
import type { Memory } from '../memory/shared.ts';

/** Looks in the time after which a handler counts as stuck. */
const LOOKS = 4;

export class Watchdog {
  readonly periodMillis: number;
  readonly #memory: Memory;
  readonly #stuck: (queue: number) => void;
  /** Per queue: the heartbeat seen last, and how many looks it has stood still in a handler. */
  readonly #heartbeats: Int32Array;
  readonly #still: Int32Array;
  /** Queues whose words are a dead worker's: a new one may take longer to load than a handler may to return. */
  readonly #dead = new Set<number>();

  constructor(memory: Memory, stuckMillis: number, stuck: (queue: number) => void) {
    const { queues } = memory.layout.geometry;
    this.periodMillis = Math.ceil(stuckMillis / LOOKS);
    this.#memory = memory;
    this.#stuck = stuck;
    this.#heartbeats = new Int32Array(queues).fill(-1);
    this.#still = new Int32Array(queues);
  }

  /** The queue's worker has died: its call goes on in the memory alone, until the next one takes over. */
  died(queue: number): void {
    this.#dead.add(queue);
    this.#heartbeats[queue] = this.#heartbeat(queue);
    this.#still[queue] = 0;
  }

  look(): void {
    for (let queue = 0; queue < this.#heartbeats.length; queue++) {
      const heartbeat = this.#heartbeat(queue);
      const still = this.#handling(queue) && heartbeat === this.#heartbeats[queue];
      if (!still) this.#dead.delete(queue);
      this.#heartbeats[queue] = heartbeat;
      this.#still[queue] = still && !this.#dead.has(queue) ? this.#still[queue]! + 1 : 0;
      if (this.#still[queue]! < LOOKS) continue;
      this.died(queue);
      const { words, workers } = this.#memory;
      Atomics.store(words, workers[queue]!.at('stuck'), 1);
      this.#stuck(queue);
    }
  }

  #heartbeat(queue: number): number {
    const { words, workers } = this.#memory;
    return Atomics.load(words, workers[queue]!.at('heartbeat'));
  }

  #handling(queue: number): boolean {
    const { words, workers } = this.#memory;
    return Atomics.load(words, workers[queue]!.at('handling')) !== 0;
  }
}
