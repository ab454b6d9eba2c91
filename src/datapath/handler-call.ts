/**
 * A call of the handler: the words that show a handler which does not return or kills its worker, and its exceptions.
 */
import type { Burst } from '../handler/burst.ts';
import { FAILED, type Handler } from '../handler/handler.ts';
import { queueCounters } from '../memory/counters.ts';
import type { Scope } from './scope.ts';

/** The packets that the handler has: `1 << 31 | inPlace << 30 | port << 20 | source << 12 | packets`. */
export const handlingWord = (port: number, source: number, packets: number, inPlace = false): number =>
  (1 << 31) | (inPlace ? 1 << 30 : 0) | (port << 20) | (source << 12) | packets;
/** The source of packets in a handoff ring; paths are 1 to 3. */
export const handoffSource = (from: number): number => 64 + from;

export const handlingPort = (word: number): number => (word >>> 20) & 0xff;
export const handlingSource = (word: number): number => (word >>> 12) & 0xff;
export const handlingPackets = (word: number): number => word & 0xfff;
/** Whether they are still in the receive ring, and not counted yet. */
export const handlingInPlace = (word: number): boolean => (word & (1 << 30)) !== 0;

/** Reports an exception of the handler of a port and how many it has thrown. Called rarely; may be slow. */
export type HandlerFailure = (error: unknown, times: number, port: number) => void;

export class HandlerCall {
  readonly #handler: Handler;
  readonly #burst: Burst;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #port: number;
  readonly #handlingAt: number;
  readonly #heartbeatAt: number;
  readonly #stuckAt: number;
  readonly #errors: number;
  readonly #failed: HandlerFailure;
  #nextReport = 1;

  constructor({ memory, burst, port, queue }: Scope, handler: Handler, failed: HandlerFailure) {
    const worker = memory.workers[queue]!;
    this.#handler = handler;
    this.#burst = burst;
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#port = port;
    this.#handlingAt = worker.at('handling');
    this.#heartbeatAt = worker.at('heartbeat');
    this.#stuckAt = worker.at('stuck');
    this.#errors = queueCounters(memory, port, queue).handlerErrors;
    this.#failed = failed;
  }

  /**
   * Calls the handler with the burst. Returns how many of its packets are decided.
   *
   * @param source of the packets: see `handlingWord`
   */
  run(source: number): number {
    const burst = this.#burst;
    this.begin(source, burst.length);
    const done = this.#run(burst);
    this.end();
    return done;
  }

  #run(burst: Burst): number {
    try {
      this.#handler(burst);
      return burst.length;
    } catch (error) {
      this.report(error);
      // It failed on the packet that it read last. A handler that reads the arrays itself leaves no such trace: then the
      // whole burst has failed.
      const last = burst.cursor;
      const from = Math.max(last, 0);
      const done = last < 0 ? burst.length : last + 1;
      for (let i = from; i < done; i++) burst.verdict[i] = FAILED;
      return done;
    }
  }

  /** Before a call: writes down the packets that the handler gets, see `handlingWord`. */
  begin(source: number, packets: number, inPlace = false): void {
    const words = this.#words;
    words[this.#heartbeatAt] = (words[this.#heartbeatAt]! + 1) | 0;
    words[this.#handlingAt] = handlingWord(this.#port, source, packets, inPlace);
  }

  /** After it. If it took too long, another worker is about to continue from here: this thread waits for its end. */
  end(): void {
    if (this.#words[this.#stuckAt] !== 0) this.#park();
    this.#words[this.#handlingAt] = 0;
  }

  #park(): never {
    for (;;) Atomics.wait(this.#words, this.#stuckAt, 1);
  }

  /** Counts an exception, and reports it after 1, 2, 4, 8 … of them: one a packet would flood. */
  report(error: unknown): void {
    const times = ++this.#doubles[this.#errors]!;
    if (times < this.#nextReport) return;
    this.#nextReport = times * 2;
    this.#failed(error, times, this.#port);
  }
}
