/**
 * Which queues the flows of each port are spread over: those that the application selected, except queues that are given up
 * because no worker with the handler serves them. Writes the redirection tables. Supervisor's thread only.
 */
import { RETA_ENTRIES } from '../memory/geometry.ts';
import type { Memory } from '../memory/shared.ts';
import { respread, spread } from '../rss/redirection.ts';

export class QueueSpread {
  readonly #memory: Memory;
  readonly #all: readonly number[];
  /** Per port: the selected queues, and the table if none of them is given up. */
  readonly #wanted: { queues: readonly number[]; table: Uint8Array }[];
  readonly #givenUp = new Set<number>();

  constructor(memory: Memory) {
    const { ports, queues } = memory.layout.geometry;
    this.#memory = memory;
    this.#all = Array.from({ length: queues }, (_, queue) => queue);
    this.#wanted = Array.from({ length: ports }, () => ({ queues: this.#all, table: spread(this.#all) }));
    this.#wanted.forEach((_, port) => {
      this.#write(port);
    });
  }

  /** Workers use the new table within a burst, and before they answer the next audit. */
  redirect(port: number, queues: readonly number[]): void {
    this.#wanted[port] = { queues, table: respread(this.#wanted[port]!.table, queues) };
    this.#write(port);
  }

  /** Other queues get the queue's flows. */
  giveUp(queue: number): void {
    this.#givenUp.add(queue);
    this.#writeAll();
  }

  /** The queue gets the same flows back. */
  restore(queue: number): void {
    this.#givenUp.delete(queue);
    this.#writeAll();
  }

  #writeAll(): void {
    this.#wanted.forEach((_, port) => {
      this.#write(port);
    });
  }

  #write(port: number): void {
    const { bytes, layout } = this.#memory;
    const { queues, table } = this.#wanted[port]!;
    const serves = (queue: number): boolean => !this.#givenUp.has(queue);
    const wanted = queues.filter(serves);
    // If all selected queues are given up, the others serve; if all queues are, each keeps its flows.
    const left = wanted.length > 0 ? wanted : this.#all.filter(serves);
    const now = wanted.length === queues.length || left.length === 0 ? table : respread(table, left);
    bytes.set(now.subarray(0, RETA_ENTRIES), layout.redirection(port));
  }
}
