/**
 * How the flows of each port are spread over its queues, as far as workers do it: key, hash types and table of its
 * configuration, except for queues that are given up because no worker with the handler serves them. Writes the RSS blocks,
 * and what each worker does when idle. Supervisor's thread only.
 */
import { initial, type PortConfiguration } from '../configuration.ts';
import { IdleCode } from '../datapath/idle.ts';
import { writeRss } from '../memory/rss-block.ts';
import type { Memory } from '../memory/shared.ts';
import { hashBits } from '../rss/configuration.ts';
import { keyFrom } from '../rss/key.ts';
import { tableFrom } from '../rss/redirection.ts';
import type { Settings } from '../settings.ts';
import { idleModeOf, type PortIdle } from './idle-mode.ts';

/** The part of a port's configuration that workers carry out. */
export type WorkerConfiguration = Pick<PortConfiguration, 'rss' | 'queues' | 'mode' | 'started'>;

export const workerConfiguration = ({
  rss,
  queues,
  mode,
  started,
}: PortConfiguration): WorkerConfiguration => ({ rss, queues, mode, started });

export class QueueSpread {
  readonly #memory: Memory;
  readonly #settings: Pick<Settings, 'rssKey' | 'mode'>;
  readonly #ports: WorkerConfiguration[];
  readonly #givenUp = new Set<number>();
  /** What each port has, as text. */
  readonly #written = new Map<number, string>();

  constructor(memory: Memory, settings: Pick<Settings, 'ports' | 'rssKey' | 'mode'>) {
    this.#memory = memory;
    this.#settings = settings;
    this.#ports = settings.ports.map(({ configuration = {} }) => initial(configuration));
    this.#writeAll(false);
  }

  /** Workers use it within a burst, and before they answer the next audit. */
  configure(port: number, wanted: WorkerConfiguration): void {
    this.#ports[port] = wanted;
    this.#write(port, true);
    this.#writeModes();
  }

  /** Other queues get the queue's flows. */
  giveUp(queue: number): void {
    this.#givenUp.add(queue);
    this.#writeAll(false); // its worker takes nothing that others could wait for
  }

  /** The queue gets the same flows back. */
  restore(queue: number): void {
    this.#givenUp.delete(queue);
    this.#writeAll(true);
  }

  #writeAll(ordered: boolean): void {
    for (const port of this.#ports.keys()) this.#write(port, ordered);
    this.#writeModes();
  }

  #write(port: number, ordered: boolean): void {
    const { rss, queues: active } = this.#ports[port]!;
    const { queues } = this.#memory.layout.geometry;
    const serves = (queue: number): boolean => !this.#givenUp.has(queue);
    const table = tableFrom({ table: rss.table, active, queues, serves });
    const key = keyFrom(rss.key, this.#settings.rssKey);
    const hashTypes = hashBits(rss.hashTypes);
    const written = `${key} ${table} ${hashTypes}`;
    // Workers that take new values may wait for each other, and their packets with them.
    if (this.#written.get(port) === written) return;
    this.#written.set(port, written);
    writeRss(this.#memory, port, { key, table, hashTypes }, ordered);
  }

  #writeModes(): void {
    const { words, workers } = this.#memory;
    const ports: PortIdle[] = this.#ports.map((port) => ({
      ...port,
      mode: port.mode ?? this.#settings.mode,
    }));
    workers.forEach((worker, queue) => {
      Atomics.store(words, worker.at('idleMode'), IdleCode[idleModeOf(ports, queue)]);
    });
  }
}
