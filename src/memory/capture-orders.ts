/**
 * The orders of captures: which packets of which port workers copy for a reader. The thread of the control socket writes them;
 * each worker copies them between two bursts.
 *
 * A sequence lock over all orders: the generation, in the control page, is odd while one is written. A worker loads that word
 * once a round, and nothing else while it is the same. It never waits: if an order changes while it copies, it goes on as
 * before and tries again in its next round.
 */
import { CAPTURE_PROGRAM_WORDS, CAPTURES } from './geometry.ts';
import { LINE } from './layout.ts';
import type { Memory } from './shared.ts';

/** Words of an order; the program is on the lines behind. */
const ID = 0;
const PORT = 1;
const SNAP_LENGTH = 2;
const PROGRAM_WORDS = 3;
const PROGRAM = LINE / 4;

/** Bytes of an order with the longest program. */
export const ORDER_BYTES = 4 * (PROGRAM + CAPTURE_PROGRAM_WORDS);

export interface CaptureOrder {
  /** Not 0, and another one for each capture: records in the ring have it. */
  readonly id: number;
  readonly port: number;
  /** The most bytes of a packet that are copied. */
  readonly snapLength: number;
  /** For the filter's machine. */
  readonly program: Int32Array;
}

/** Control thread: writes an order, or ends it. Never two threads at a time. */
export function writeCaptureOrder(memory: Memory, capture: number, order: CaptureOrder | undefined): void {
  const { words, layout, control } = memory;
  const at = layout.captureOrder(capture) >> 2;
  const generationAt = control.at('captures');
  const generation = Atomics.load(words, generationAt);
  Atomics.store(words, generationAt, generation | 1);
  Atomics.store(words, at + ID, order?.id ?? 0);
  if (order !== undefined) {
    Atomics.store(words, at + PORT, order.port);
    Atomics.store(words, at + SNAP_LENGTH, order.snapLength);
    Atomics.store(words, at + PROGRAM_WORDS, order.program.length);
    for (const [i, word] of order.program.entries()) Atomics.store(words, at + PROGRAM + i, word);
  }
  Atomics.store(words, generationAt, ((generation | 1) + 1) | 0);
}

/** Ends all orders: of the thread that wrote them, which is gone. */
export function endCaptureOrders(memory: Memory): void {
  for (let capture = 0; capture < CAPTURES; capture++) writeCaptureOrder(memory, capture, undefined);
}

/** A worker's copy of the orders. */
export class CaptureOrders {
  readonly #words: Int32Array;
  readonly #generationAt: number;
  readonly #orderAt: readonly number[];
  #generation = 0;

  constructor({ words, layout, control }: Memory) {
    this.#words = words;
    this.#generationAt = control.at('captures');
    this.#orderAt = Array.from({ length: CAPTURES }, (_, capture) => layout.captureOrder(capture) >> 2);
  }

  /**
   * Whether orders may have changed since {@link read}: one load, which is not an Atomic. An order that it misses, it sees in the
   * next round.
   */
  get isStale(): boolean {
    return this.#words[this.#generationAt] !== this.#generation;
  }

  /** The order of each capture that runs, by number; undefined, and still stale, while one is being written. */
  read(): (CaptureOrder | undefined)[] | undefined {
    const words = this.#words;
    const generation = Atomics.load(words, this.#generationAt);
    if ((generation & 1) !== 0) return undefined;
    const orders = this.#orderAt.map((at) => this.#order(at));
    if (Atomics.load(words, this.#generationAt) !== generation) return undefined;
    this.#generation = generation;
    return orders;
  }

  #order(at: number): CaptureOrder | undefined {
    const words = this.#words;
    const id = Atomics.load(words, at + ID);
    if (id === 0) return undefined;
    const length = Math.min(Atomics.load(words, at + PROGRAM_WORDS), CAPTURE_PROGRAM_WORDS);
    const program = Int32Array.from({ length }, (_, i) => Atomics.load(words, at + PROGRAM + i));
    const [port, snapLength] = [Atomics.load(words, at + PORT), Atomics.load(words, at + SNAP_LENGTH)];
    return { id, port, snapLength, program };
  }
}
