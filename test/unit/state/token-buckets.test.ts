import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Clock } from '../../../src/handler.ts';
import { TokenBuckets } from '../../../src/state.ts';

/** Counts tokens in units of a billionth, which a bucket of whole tokens a second gets each nanosecond. */
class Model {
  readonly #rate: bigint;
  readonly #most: bigint;
  #tokens: bigint;
  #at = 0n;

  constructor(rate: number, burst: number) {
    this.#rate = BigInt(rate);
    this.#most = BigInt(burst) * 1_000_000_000n;
    this.#tokens = this.#most;
  }

  take(tokens: number, now: number): boolean {
    this.#tokens += (BigInt(now) - this.#at) * this.#rate;
    if (this.#tokens > this.#most) this.#tokens = this.#most;
    this.#at = BigInt(now);
    const wanted = BigInt(tokens) * 1_000_000_000n;
    if (wanted > this.#tokens) return false;
    this.#tokens -= wanted;
    return true;
  }
}

let now = 0;
const clock = new Clock(() => now);
function at(nanos: number): void {
  now = nanos;
  clock.update();
}

describe('TokenBuckets', () => {
  it('take as a bucket that is filled each nanosecond', () => {
    // Rates that divide a billion: a double has their nanoseconds per token exactly.
    const rate = fc.constantFrom(1, 8, 1000, 1_000_000, 125_000_000);
    const takes = fc.array(fc.tuple(fc.nat(12), fc.nat(3_000_000_000)), { maxLength: 60, size: 'max' });
    fc.assert(
      fc.property(rate, fc.integer({ min: 1, max: 10 }), takes, (perSecond, burst, all) => {
        const buckets = new TokenBuckets({ clock, rate: perSecond, burst, buckets: 3 });
        const model = new Model(perSecond, burst);
        at(1);
        for (const [tokens, wait] of all) {
          at(now + Math.floor(wait / perSecond));
          expect(buckets.take(1, tokens)).toBe(model.take(tokens, now));
        }
        expect(buckets.available(0)).toBeCloseTo(burst, 6); // the others are full
      }),
    );
  });

  it('are kept in memory that the caller gives', () => {
    const memory = { buffer: new SharedArrayBuffer(64), at: 8 };
    at(1e9);
    const options = { clock, rate: 10, burst: 5, buckets: 7, memory };
    const one = new TokenBuckets(options);
    expect(one.take(6, 5)).toBe(true);
    const other = new TokenBuckets(options);
    expect(other.take(6, 1)).toBe(false);
    other.fill(6);
    expect(one.available(6)).toBeCloseTo(5, 6);
  });

  it.each([
    { rate: 0, burst: 1 },
    { rate: 1, burst: 0 },
    { rate: 1, burst: Number.NaN },
    { rate: 1, burst: 1, buckets: 0 },
  ])('refuse %o', (options) => {
    expect(() => new TokenBuckets({ clock, ...options })).toThrow(RangeError);
  });
});
