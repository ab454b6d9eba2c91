/**
 * Token buckets: each has up to `burst` tokens, and gets `rate` a second. One for a whole worker, or one for each entry of a
 * {@link FlowTable}.
 *
 * A bucket is one number: when it was empty, if it had been filled ever since. So a bucket costs 8 bytes and no timer. An object
 * belongs to one thread; `take` allocates nothing.
 */
import type { Clock } from '../handler/clock.ts';
import { placeIn, type StateMemory, wholeFrom } from './state-memory.ts';

const NANOS_PER_SECOND = 1e9;
/** The time 0, as a number that is not 0. */
const JUST_BEFORE = -Number.MIN_VALUE;

export interface TokenBucketsOptions {
  /** `context.clock`. */
  readonly clock: Clock;
  /** Tokens a second, more than 0. */
  readonly rate: number;
  /** The most tokens in a bucket, more than 0. A larger number can never be taken at once. */
  readonly burst: number;
  /** Default 1. */
  readonly buckets?: number;
  /** 8 bytes for each bucket, zeros for full ones. Default: memory of its own. */
  readonly memory?: StateMemory;
}

export class TokenBuckets {
  /** When each bucket was empty; 0 for a full one. */
  readonly #emptyAt: Float64Array;
  readonly #time: Float64Array;
  readonly #nanosPerToken: number;
  readonly #nanosToFill: number;

  /** @throws RangeError for an option out of range */
  constructor({ clock, rate, burst, buckets = 1, memory }: TokenBucketsOptions) {
    wholeFrom('buckets', buckets, 1, 2 ** 28);
    if (!(rate > 0 && rate < Number.POSITIVE_INFINITY))
      throw new RangeError(`rate is ${rate}: it must be more than 0`);
    if (!(burst > 0 && burst < Number.POSITIVE_INFINITY)) {
      throw new RangeError(`burst is ${burst}: it must be more than 0`);
    }
    this.#emptyAt =
      memory === undefined
        ? new Float64Array(buckets)
        : new Float64Array(memory.buffer, placeIn(memory, buckets * 8), buckets);
    this.#time = clock.time;
    this.#nanosPerToken = NANOS_PER_SECOND / rate;
    this.#nanosToFill = burst * this.#nanosPerToken;
  }

  /** Takes tokens from a bucket, if it has that many: all or none. */
  take(bucket: number, tokens: number): boolean {
    const now = this.#time[0]!;
    const full = now - this.#nanosToFill;
    const before = this.#emptyAt[bucket]!;
    const emptyAt = (before === 0 || before < full ? full : before) + tokens * this.#nanosPerToken;
    if (emptyAt > now) return false;
    this.#emptyAt[bucket] = emptyAt === 0 ? JUST_BEFORE : emptyAt; // 0 is a full one
    return true;
  }

  /** Tokens in the bucket. */
  available(bucket: number): number {
    const emptyAt = this.#emptyAt[bucket]!;
    const nanos = emptyAt === 0 ? this.#nanosToFill : Math.min(this.#time[0]! - emptyAt, this.#nanosToFill);
    return nanos / this.#nanosPerToken;
  }

  /** Fills the bucket: for an entry that another flow gets. */
  fill(bucket: number): void {
    this.#emptyAt[bucket] = 0;
  }
}
