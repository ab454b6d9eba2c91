/** Asks every worker where its frames are: see datapath/audit.ts. Coordinator thread only. */
import { ringDoorbell } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
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

  /** Resolves when every worker has answered: the answers are in the worker blocks. Never resolves after {@link close}. */
  ask(): Promise<void> {
    const { words, workers } = this.#memory;
    const wanted = (Atomics.load(words, workers[0]!.at('auditWanted')) + 1) | 0;
    workers.forEach((worker, queue) => {
      Atomics.store(words, worker.at('auditWanted'), wanted);
      ringDoorbell(this.#shim, this.#memory, queue);
    });
    this.#timer ??= setInterval(() => this.#check(), 1);
    return new Promise((answered) => this.#asked.push({ wanted, answered }));
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Workers answer at a burst boundary, within microseconds unless they are asleep or dead. */
  #check(): void {
    const { words, workers } = this.#memory;
    const done = workers.map((worker) => Atomics.load(words, worker.at('auditDone')));
    const oldest = done.reduce((a, b) => (((a - b) | 0) < 0 ? a : b));
    const isAnswered = ({ wanted }: { wanted: number }): boolean => ((oldest - wanted) | 0) >= 0;
    for (const audit of this.#asked) if (isAnswered(audit)) audit.answered();
    this.#asked = this.#asked.filter((audit) => !isAnswered(audit));
    if (this.#asked.length > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
