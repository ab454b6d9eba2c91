/** Asks every worker where its frames are: see datapath/audit.ts. Coordinator thread only. */
import { ringDoorbell } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import { WorkerBlock } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';

export class Audits {
  readonly #shim: Shim;
  readonly #memory: Memory;
  #asked: { wanted: number; answered: () => void }[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(shim: Shim, memory: Memory) {
    this.#shim = shim;
    this.#memory = memory;
  }

  /** Resolves when every worker has answered: the answers lie in the worker blocks. Never, once closed. */
  ask(): Promise<void> {
    const { words, layout } = this.#memory;
    const wantedAt = (queue: number): number => (layout.worker(queue) + WorkerBlock.auditWanted) >> 2;
    const wanted = (Atomics.load(words, wantedAt(0)) + 1) | 0;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      Atomics.store(words, wantedAt(queue), wanted);
      ringDoorbell(this.#shim, this.#memory, queue);
    }
    this.#timer ??= setInterval(() => this.#look(), 1);
    return new Promise((answered) => this.#asked.push({ wanted, answered }));
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Workers answer at a burst boundary, within microseconds unless they are asleep or dead. */
  #look(): void {
    const { words, layout } = this.#memory;
    const done = Array.from({ length: layout.geometry.queues }, (_, queue) =>
      Atomics.load(words, (layout.worker(queue) + WorkerBlock.auditDone) >> 2),
    );
    const oldest = done.reduce((a, b) => (((a - b) | 0) < 0 ? a : b));
    const isAnswered = ({ wanted }: { wanted: number }): boolean => ((oldest - wanted) | 0) >= 0;
    for (const audit of this.#asked) if (isAnswered(audit)) audit.answered();
    this.#asked = this.#asked.filter((audit) => !isAnswered(audit));
    if (this.#asked.length > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
