/** From CLOCK_MONOTONIC, which workers stamp packets with, to the time of day. Any thread. */

const MILLI = 1_000_000n;

/** Node has the time of day in milliseconds only. */
export interface Clocks {
  /** Milliseconds since 1970. */
  readonly millis: () => number;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly nanos: () => bigint;
}

/**
 * What to add to CLOCK_MONOTONIC for nanoseconds since 1970: waits for the next millisecond of the time of day, so it takes up
 * to one, and is exact to the time of a few instructions. A capture keeps one, so that its times never step.
 */
export function realTimeOffset(clocks: Clocks = { millis: Date.now, nanos: process.hrtime.bigint }): bigint {
  const first = clocks.millis();
  let before = clocks.nanos();
  // Bounded: a clock of the application's own, set for a test, may stand still.
  for (let attempt = 0; attempt < 100_000; attempt++) {
    const millis = clocks.millis();
    const after = clocks.nanos();
    if (millis !== first) return BigInt(millis) * MILLI - (before + after) / 2n;
    before = after;
  }
  return BigInt(first) * MILLI - before;
}
