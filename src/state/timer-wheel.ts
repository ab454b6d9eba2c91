/**
 * Timers of one worker: a hashed timing wheel (Varghese and Lauck, SOSP 1987, scheme 6). Timers have numbers from 0, such as the
 * entries of a {@link FlowTable}. Setting and cancelling one costs the same however many are set, and nothing allocates.
 *
 * A worker has no event loop, so `setTimeout` does not work there. Call {@link TimerWheel.run} in `tick`, which the worker calls
 * while packets come and while none do, or once a burst. The time is that of the clock, as of its last `update`.
 */
import type { Clock } from '../handler/clock.ts';
import { wholeFrom } from './state-memory.ts';

const NONE = -1;
const MAX_TIMERS = 1 << 24;
const NANOS_PER_MILLI = 1e6;
/** Positions of numbers above 2^31: such a number in a field, or in an argument, may be an object. */
const STEP = 0;
const TARGET = 1;

export interface TimerWheelOptions {
  /** `context.clock`. */
  readonly clock: Clock;
  /** How many timers there are, 1 to 16,777,216. */
  readonly timers: number;
  /**
   * The precision: a timer fires up to this much later than it should while {@link TimerWheel.run} returns true, and never earlier. 1 to 60,000;
   * default 1.
   */
  readonly millisPerStep?: number;
  /**
   * Steps of one turn, a power of two, 8 to 65,536. A timer is looked at once a turn until it is due, so a turn should be about
   * as long as most timers are set for. Default 1024.
   */
  readonly steps?: number;
}

export class TimerWheel {
  readonly #time: Float64Array;
  readonly #nanosPerStep: number;
  readonly #steps: number;
  readonly #mask: number;
  /** The step that {@link run} has begun with, and that it goes up to, counted from time 0. */
  readonly #at = new Float64Array(2);
  /** By step of the turn: its first timer. */
  readonly #first: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  /** By timer: the step in which it is due; 0 if it is not set. */
  readonly #due: Float64Array;
  /** The next timer to look at in the step. */
  #cursor = NONE;

  /** @throws RangeError for an option out of range */
  constructor({ clock, timers, millisPerStep = 1, steps = 1024 }: TimerWheelOptions) {
    wholeFrom('timers', timers, 1, MAX_TIMERS);
    wholeFrom('millisPerStep', millisPerStep, 1, 60_000);
    wholeFrom('steps', steps, 8, 65_536);
    if ((steps & (steps - 1)) !== 0) throw new RangeError(`steps is ${steps}: it must be a power of two`);
    this.#time = clock.time;
    this.#nanosPerStep = millisPerStep * NANOS_PER_MILLI;
    this.#steps = steps;
    this.#mask = steps - 1;
    this.#first = new Int32Array(steps).fill(NONE);
    this.#next = new Int32Array(timers);
    this.#previous = new Int32Array(timers);
    this.#due = new Float64Array(timers);
    this.#at.fill(Math.floor(clock.nanos / this.#nanosPerStep));
  }

  /**
   * Has the timer fire `millis` from now, and not when it was set for before. 0 means the next step.
   *
   * @param millis a whole number below 2^31
   */
  set(timer: number, millis: number): void {
    this.cancel(timer);
    const wanted = Math.ceil((this.#time[0]! + millis * NANOS_PER_MILLI) / this.#nanosPerStep);
    const due = Math.max(wanted, this.#at[TARGET]! + 1);
    const slot = due & this.#mask;
    const first = this.#first[slot]!;
    this.#due[timer] = due;
    this.#next[timer] = first;
    this.#previous[timer] = NONE;
    if (first !== NONE) this.#previous[first] = timer;
    this.#first[slot] = timer;
  }

  /** Has the timer not fire; one that is not set stays so. */
  cancel(timer: number): void {
    const due = this.#due[timer]!;
    if (due === 0) return;
    this.#due[timer] = 0;
    const next = this.#next[timer]!;
    const previous = this.#previous[timer]!;
    if (this.#cursor === timer) this.#cursor = next;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous === NONE) this.#first[due & this.#mask] = next;
    else this.#next[previous] = next;
  }

  isSet(timer: number): boolean {
    return this.#due[timer] !== 0;
  }

  /**
   * Fires the timers that are due, in no particular order: each is unset and then given to `fire`, which may set and cancel any.
   *
   * @param most timers to look at, due or not; the next call continues
   * @returns whether all have been looked at. If not, timers are late: call it again
   */
  run(fire: (timer: number) => void, most = 64): boolean {
    const at = this.#at;
    const target = Math.max(at[TARGET]!, Math.floor(this.#time[0]! / this.#nanosPerStep));
    // One turn looks at every timer. Whole turns are left out, so that calls which do not get to the end go on where the last one was.
    const turns = Math.floor((target - at[STEP]!) / this.#steps);
    if (turns > 1) at[STEP]! += (turns - 1) * this.#steps;
    at[TARGET] = target;
    let left = most;
    for (;;) {
      while (this.#cursor !== NONE) {
        if (left-- <= 0) return false;
        const timer = this.#cursor;
        this.#cursor = this.#next[timer]!;
        if (this.#due[timer]! > at[TARGET]!) continue;
        this.cancel(timer);
        fire(timer);
      }
      if (at[STEP]! >= at[TARGET]!) return true;
      at[STEP]!++;
      this.#cursor = this.#first[at[STEP]! & this.#mask]!;
    }
  }
}
