/**
 * Finds handlers that do not return: those whose call lasts over several checks.
 *
 * Supervisor's thread only. The handler's thread is terminated. The next worker drops the packets that it had in hand, since
 * its handler would not return from them either; see datapath/takeover.ts.
 */
import type { Memory } from '../memory/shared.ts';

/** Checks in the time after which a handler counts as stuck. */
const CHECKS = 4;

export class Watchdog {
  readonly periodMillis: number;
  readonly #memory: Memory;
  readonly #stuck: (queue: number) => void;
  /** Per queue: the last heartbeat, and over how many checks it has not changed during a handler's call. */
  readonly #heartbeats: Int32Array;
  readonly #unchanged: Int32Array;
  /** Queues whose words are a dead worker's: a new worker may load for longer than a handler may run. */
  readonly #dead = new Set<number>();

  constructor(memory: Memory, stuckMillis: number, stuck: (queue: number) => void) {
    const { queues } = memory.layout.geometry;
    this.periodMillis = Math.ceil(stuckMillis / CHECKS);
    this.#memory = memory;
    this.#stuck = stuck;
    this.#heartbeats = new Int32Array(queues).fill(-1);
    this.#unchanged = new Int32Array(queues);
  }

  /** The queue's worker has died: its words show a call in progress until the next worker takes over. */
  died(queue: number): void {
    this.#dead.add(queue);
    this.#heartbeats[queue] = this.#heartbeat(queue);
    this.#unchanged[queue] = 0;
  }

  check(): void {
    for (let queue = 0; queue < this.#heartbeats.length; queue++) {
      const heartbeat = this.#heartbeat(queue);
      const unchanged = this.#handling(queue) && heartbeat === this.#heartbeats[queue];
      if (!unchanged) this.#dead.delete(queue);
      this.#heartbeats[queue] = heartbeat;
      this.#unchanged[queue] = unchanged && !this.#dead.has(queue) ? this.#unchanged[queue]! + 1 : 0;
      if (this.#unchanged[queue]! < CHECKS) continue;
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
