/**
 * The time of a worker, as its handler takes it: read once a burst, and used by all of twinpath/state until the next reading. A
 * number that is handed from function to function would be an object for each packet; this one is in a typed array.
 *
 * An object belongs to one thread.
 */
import { nowNanos } from '../memory/shared.ts';

export class Clock {
  /** One number: {@link nanos}. */
  readonly time = new Float64Array(1);
  readonly #read: () => number;

  /** @param read nanoseconds that do not go back. Default CLOCK_MONOTONIC */
  constructor(read: () => number = nowNanos) {
    this.#read = read;
    this.update();
  }

  /** Reads the time, which takes about a tenth of a microsecond: call it once a burst, not once a packet. */
  update(): void {
    this.time[0] = this.#read();
  }

  /** The time that was read last, in nanoseconds of CLOCK_MONOTONIC, the same for all workers. */
  get nanos(): number {
    return this.time[0]!;
  }
}
