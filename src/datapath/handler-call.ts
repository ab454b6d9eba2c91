/**
 * What surrounds each call of the handler: the words by which a handler that does not return, or kills its worker, is
 * found out; and what becomes of its exceptions.
 */

import { handlingWord } from '../memory/bit-fields.ts';
import { queueCounters } from '../memory/counters.ts';
import type { Scope } from './scope.ts';

/** What a worker tells about exceptions of its handler. Called rarely; may be slow. */
export type HandlerFailure = (error: unknown, times: number) => void;

export class HandlerCall {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #port: number;
  readonly #handlingAt: number;
  readonly #heartbeatAt: number;
  readonly #stuckAt: number;
  readonly #errors: number;
  readonly #failed: HandlerFailure;
  #nextReport = 1;

  constructor({ memory, port, queue }: Scope, failed: HandlerFailure) {
    const worker = memory.workers[queue]!;
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#port = port;
    this.#handlingAt = worker.at('handling');
    this.#heartbeatAt = worker.at('heartbeat');
    this.#stuckAt = worker.at('stuck');
    this.#errors = queueCounters(memory, port, queue).handlerErrors;
    this.#failed = failed;
  }

  /** Says that the handler is called, and with what: see `handlingWord`. */
  begin(source: number, packets: number, inPlace = false): void {
    const words = this.#words;
    words[this.#heartbeatAt] = (words[this.#heartbeatAt]! + 1) | 0;
    words[this.#handlingAt] = handlingWord(this.#port, source, packets, inPlace);
  }

  /** It has returned. If that is too late, another worker is about to go on from here: this thread waits for its end. */
  end(): void {
    if (this.#words[this.#stuckAt] !== 0) this.#park();
    this.#words[this.#handlingAt] = 0;
  }

  #park(): never {
    for (;;) Atomics.wait(this.#words, this.#stuckAt, 1);
  }

  blame(error: unknown): void {
    const times = ++this.#doubles[this.#errors]!;
    if (times < this.#nextReport) return;
    this.#nextReport = times * 2; // the first, then ever more rarely: an error a packet must not flood
    this.#failed(error, times);
  }
}
