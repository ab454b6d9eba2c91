import { afterEach, describe, expect, it, vi } from 'vitest';
import { WallClock } from '../../../src/memory/wall-clock.ts';

/** Nanoseconds since 1970. */
function read(clock: WallClock): bigint {
  clock.read();
  return (BigInt(clock.high >>> 0) << 32n) | BigInt(clock.low >>> 0);
}

afterEach(() => vi.restoreAllMocks());

describe('the clock of time stamps', () => {
  it('counts every nanosecond of the monotonic clock, past any 32 bits', () => {
    const millis = vi.spyOn(performance, 'now').mockReturnValue(0);
    vi.spyOn(Date, 'now').mockImplementation(() => performance.timeOrigin + performance.now());
    const clock = new WallClock();
    const start = read(clock);
    for (const nanos of [1, 999, 4_294_967_295, 4_294_967_296, 86_400_000_000_001]) {
      millis.mockReturnValue(nanos / 1e6);
      expect(read(clock) - start).toBe(BigInt(nanos));
    }
  });

  it.each([3_600_000, -3_600_000])('follows when the machine’s clock is set by %d ms', (step) => {
    const millis = vi.spyOn(performance, 'now').mockReturnValue(0);
    let set = 0;
    vi.spyOn(Date, 'now').mockImplementation(() => performance.timeOrigin + performance.now() + set);
    const clock = new WallClock();
    const start = read(clock);
    set = step;
    millis.mockReturnValue(500);
    expect(read(clock) - start).toBe(500_000_000n); // it looks once a second
    millis.mockReturnValue(1_500);
    const difference = Number(read(clock) - start) / 1e6 - (1_500 + step);
    expect(Math.abs(difference)).toBeLessThanOrEqual(1);
  });
});
