/**
 * The time of day in nanoseconds since 1970, for time stamps: one reading takes some 50 ns and allocates nothing.
 *
 * It counts on from the moment the process started by CLOCK_MONOTONIC, which NTP slews too. When somebody sets the machine's
 * clock, it follows within {@link CHECK_MILLIS}, then to a millisecond. One object per thread.
 */

const CHECK_MILLIS = 1_000;
/** The difference from `Date.now()`, which has whole milliseconds, that is none. */
const TOLERANCE = 5;
const WORD = 2 ** 32;

export class WallClock {
  /** The last {@link read}: the two halves of 64 bits, as words. */
  low = 0;
  high = 0;
  #baseLow = 0;
  #baseHigh = 0;
  /** What the clock was set by since the process started. */
  #step = 0;
  #nextCheck = 0;

  constructor() {
    this.#setBase();
  }

  /** Reads the clock. */
  read(): void {
    const millis = performance.now();
    if (millis >= this.#nextCheck) this.#check(millis);
    const nanos = Math.round(millis * 1e6);
    const low = this.#baseLow + (nanos % WORD);
    this.low = low | 0;
    this.high = (this.#baseHigh + Math.floor(nanos / WORD) + (low >= WORD ? 1 : 0)) | 0;
  }

  #check(millis: number): void {
    this.#nextCheck = millis + CHECK_MILLIS;
    const off = Date.now() - (performance.timeOrigin + this.#step + millis);
    if (Math.abs(off) <= TOLERANCE) return;
    this.#step += off;
    this.#setBase();
  }

  #setBase(): void {
    const nanos = BigInt(Math.round((performance.timeOrigin + this.#step) * 1e3)) * 1000n;
    this.#baseLow = Number(nanos & 0xffff_ffffn);
    this.#baseHigh = Number(nanos >> 32n);
  }
}
