import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Clock } from '../../../src/handler.ts';
import { TimerWheel } from '../../../src/state.ts';

/** Milliseconds. */
const STEP = 10;
let now = 0;
const clock = new Clock(() => now * 1e6);
function at(millis: number): void {
  now = millis;
  clock.update();
}

type Action =
  | { readonly action: 'set'; readonly timer: number; readonly after: number }
  | { readonly action: 'cancel'; readonly timer: number }
  | { readonly action: 'run'; readonly wait: number; readonly most: number };

const timer = fc.nat(5);
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ action: fc.constant('set'), timer, after: fc.nat(20 * STEP) }) },
  { weight: 1, arbitrary: fc.record({ action: fc.constant('cancel'), timer }) },
  {
    weight: 3,
    arbitrary: fc.record({
      action: fc.constant('run'),
      wait: fc.nat(30 * STEP),
      most: fc.integer({ min: 1, max: 30 }),
    }),
  },
) as fc.Arbitrary<Action>;

describe('TimerWheel', () => {
  it('fires what a list of times has, once and never early, whatever is set and cancelled meanwhile', () => {
    const again = fc.array(fc.tuple(timer, timer, fc.nat(20 * STEP)), { maxLength: 5 });
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 120, size: 'max' }),
        again,
        fc.nat(1e6),
        (actions, inside, start) => {
          at(start);
          const wheel = new TimerWheel({ clock, timers: 6, millisPerStep: STEP, steps: 8 });
          /** By timer: when it is due. */
          const model = new Map<number, number>();
          const set = (one: number, after: number): void => {
            wheel.set(one, after);
            model.set(one, now + after);
          };
          const cancel = (one: number): void => {
            wheel.cancel(one);
            model.delete(one);
          };
          const fired = (one: number): void => {
            expect(model.has(one), `timer ${one} is set`).toBe(true);
            expect(model.get(one)).toBeLessThanOrEqual(now);
            expect(wheel.isSet(one)).toBe(false);
            model.delete(one);
            for (const [trigger, other, after] of inside) {
              if (trigger !== one) continue;
              if (after % 3 === 0) cancel(other);
              else set(other, after);
            }
          };
          for (const given of actions) {
            if (given.action === 'set') set(given.timer, given.after);
            else if (given.action === 'cancel') cancel(given.timer);
            else {
              at(now + given.wait);
              const done = wheel.run(fired, given.most);
              // Steps begin at multiples of STEP, and what is set while it runs waits for the next.
              const step = Math.floor(now / STEP) * STEP;
              if (done && inside.length === 0) {
                for (const due of model.values()) expect(due).toBeGreaterThan(step - STEP);
              }
            }
            for (let one = 0; one < 6; one++) {
              if (wheel.isSet(one) !== model.has(one)) expect.fail(`timer ${one}: ${JSON.stringify(given)}`);
            }
          }
          // In the end everything fires.
          for (let turns = 0; turns < 400 && model.size > 0; turns++) {
            at(now + 10 * STEP);
            if (inside.length > 0) inside.length = 0;
            wheel.run(fired, 20);
          }
          expect(model.size).toBe(0);
        },
      ),
    );
  });

  it('fires in the step in which a timer is due, at its precision', () => {
    at(0);
    const wheel = new TimerWheel({ clock, timers: 2, millisPerStep: STEP, steps: 8 });
    const fired: number[] = [];
    wheel.set(0, 25);
    at(29);
    wheel.run((one) => fired.push(one));
    expect(fired).toEqual([]);
    at(30);
    wheel.run((one) => fired.push(one));
    expect(fired).toEqual([0]);
  });

  it('looks at no more timers in one call than it may, and continues', () => {
    at(0);
    const wheel = new TimerWheel({ clock, timers: 100, millisPerStep: STEP, steps: 8 });
    for (let one = 0; one < 100; one++) wheel.set(one, STEP);
    const fired: number[] = [];
    at(10 * STEP);
    expect(wheel.run((one) => fired.push(one), 30)).toBe(false);
    expect(fired).toHaveLength(30);
    for (let calls = 0; calls < 3; calls++) wheel.run((one) => fired.push(one), 30);
    expect(fired.sort((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });

  it('gets to every step also if each call comes more than a turn after the last and looks at few timers', () => {
    at(0);
    const wheel = new TimerWheel({ clock, timers: 3, millisPerStep: STEP, steps: 8 });
    for (const far of [0, 1]) wheel.set(far, (8 * 1000 + 1) * STEP);
    wheel.set(2, 2 * STEP);
    const fired: number[] = [];
    for (let calls = 1; calls <= 3; calls++) {
      at(calls * 16 * STEP);
      wheel.run((one) => fired.push(one), 2);
    }
    expect(fired).toEqual([2]);
  });

  it('ignores a clock that goes back', () => {
    at(100 * STEP);
    const wheel = new TimerWheel({ clock, timers: 1, millisPerStep: STEP, steps: 8 });
    wheel.set(0, STEP);
    at(STEP);
    expect(wheel.run(() => expect.fail())).toBe(true);
    expect(wheel.isSet(0)).toBe(true);
  });

  it.each([{ timers: 0 }, { timers: 1, steps: 12 }, { timers: 1, millisPerStep: 0.5 }])(
    'refuses %o',
    (options) => {
      expect(() => new TimerWheel({ clock, ...options })).toThrow(RangeError);
    },
  );
});
