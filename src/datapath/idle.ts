/**
 * What a worker does when there is nothing to do.
 *
 * - `poll`: goes on looking. Lowest latency, one core each.
 * - `adaptive`: looks {@link SPINS} more times, some tens of microseconds, then sleeps until a path has
 *   packets, the doorbell rings, or 200 ms are over. A packet resets the count.
 * - `interrupt`: sleeps at the first empty round. While packets come in numbers it does not have each of them wake it,
 *   but gathers them: it sleeps for a time by the clock, at most {@link MAX_GATHER} and the kernel's timer slack, as a
 *   network card moderates its interrupts. The doorbell still wakes it.
 *
 * The sleep is poll(2) over the paths' descriptors and the doorbell; without any descriptor (memory paths)
 * it is `Atomics.wait` on the doorbell word. Before a sleep that packets end everything is looked at once more after
 * saying "asleep", so nothing that arrives in between is slept through.
 */
import type { Shim } from '../kernel/shim.ts';
import { SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { NO_ARRIVALS } from '../paths/attached-path.ts';

export type IdleMode = 'poll' | 'adaptive' | 'interrupt';

const SPINS = 200;
/** Of one poll(2): a thread that is to be ended is ended when it comes back from there. */
const MAX_SLEEP = 50;
/** Sleeps in a row before the next round: coming back costs half as much without one, on cold caches. */
const SLEEPS = 4;
const UNPOLLED_SLEEP = 1;
const POLLIN = 1;

/** Packets within one millisecond of the clock from which on they are gathered: several times what a lone ping-pong makes. */
const MANY = 256;
/** Packets that a gathering sleep should bring: a small part of a ring, and the price of a sleep is little for each. */
const GATHERED = 256;
/** Fewer than these from the longest of them, and each wakes the worker again: half of what began it. */
const FEW = 24;
/** Microseconds: what network cards take for high rates. */
const MAX_GATHER = 200;
const MIN_GATHER = 25;

export class Idle {
  readonly #mode: IdleMode;
  readonly #shim: Shim;
  readonly #words: Int32Array;
  readonly #stopAt: number;
  readonly #doorbellAt: number;
  /** Index of the word that says whether the worker sleeps. */
  readonly sleeping: number;
  readonly #doorbellFd: number;
  readonly #pollfds: Int32Array;
  readonly #scratch = new Uint8Array(8);
  #empty = 0;
  /** Packets handled since the clock last changed, or since the last gathering sleep. */
  #packets = 0;
  #clock = 0;
  /** Microseconds of the gathering sleeps; 0 while a packet ends a sleep. */
  #gather = 0;
  /** For the next sleep: descriptors in `#pollfds`, and whether a path has none. Nothing is allocated for it. */
  #watched = 0;
  #blind = false;

  constructor(shim: Shim, memory: Memory, queue: number, mode: IdleMode) {
    this.#mode = mode;
    this.#shim = shim;
    this.#words = memory.words;
    const worker = memory.workers[queue]!;
    this.#stopAt = memory.control.at('stop');
    this.#doorbellAt = worker.at('doorbell');
    this.sleeping = worker.at('sleeping');
    this.#doorbellFd = worker.doorbellFd;
    this.#pollfds = new Int32Array(2 * (1 + SLOT_PATHS.length * memory.layout.geometry.ports));
  }

  /** Whether the worker should sleep, after a round that handled `packets`. */
  shouldSleep(packets: number): boolean {
    if (packets > 0) {
      this.#packets += packets;
      this.#empty = 0;
      return false;
    }
    if (this.#mode === 'poll') return false;
    return this.#mode === 'interrupt' || ++this.#empty > SPINS;
  }

  /** Packets handled by a look that is not told to {@link shouldSleep}. */
  also(packets: number): void {
    this.#packets += packets;
  }

  /** One more descriptor to wake the next sleep, -1 of a path that has none. */
  watch(fd: number): void {
    if (fd >= 0) this.#pollfds[2 * this.#watched++] = fd;
    else if (fd !== NO_ARRIVALS) this.#blind = true;
  }

  /**
   * @param hasUnpolledWork something waits that no descriptor tells of
   * @param most milliseconds to sleep at most
   * @param quiet looks once more, after others can see that this worker sleeps
   */
  sleep(hasUnpolledWork: boolean, most: number, quiet: () => boolean): void {
    const millis = hasUnpolledWork ? UNPOLLED_SLEEP : Math.min(MAX_SLEEP, Math.ceil(most));
    const pollfds = this.#pollfds;
    const blind = this.#blind;
    let count = this.#watched;
    this.#watched = 0;
    this.#blind = false;
    if (blind) {
      this.#wait(millis, quiet);
      return;
    }
    const gather = this.#mode === 'interrupt' ? this.#pace() : 0;
    if (gather > 0) count = 0;
    pollfds[2 * count++] = this.#doorbellFd;
    for (let i = 0; i < count; i++) pollfds[2 * i + 1] = POLLIN;
    const { sleeping } = this;
    const doorbell = this.#doorbellAt;
    const rings = Atomics.load(this.#words, doorbell);
    Atomics.store(this.#words, sleeping, 1);
    let woken = 0;
    if (gather > 0) woken = this.#shim.pollMicros(pollfds, count, gather);
    else if (quiet()) {
      for (let left = this.#sleeps(hasUnpolledWork, most); left > 0 && woken === 0; left--) {
        woken = this.#shim.poll(pollfds, count, millis);
        if (Atomics.load(this.#words, this.#stopAt) !== 0) break;
        // The word is counted up before the eventfd is written: a write that failed costs a sleep, no more.
        if (Atomics.load(this.#words, doorbell) !== rings) break;
      }
    }
    Atomics.store(this.#words, sleeping, 0);
    if (woken <= 0) return;
    if (pollfds[2 * count - 1]! >>> 16) this.#shim.read(this.#doorbellFd, this.#scratch, 8);
  }

  /** Microseconds for which to gather packets now; 0: the next one ends the sleep. Adapts to how many come. */
  #pace(): number {
    const packets = this.#packets;
    if (this.#gather === 0) {
      const clock = this.#shim.millis();
      if (clock !== this.#clock) {
        this.#clock = clock;
        this.#packets = 0;
      } else if (packets >= MANY) {
        this.#gather = MAX_GATHER;
        this.#packets = 0;
      }
      return this.#gather;
    }
    this.#packets = 0;
    if (packets > 2 * GATHERED) this.#gather = Math.max(MIN_GATHER, this.#gather >> 1);
    else if (this.#gather < MAX_GATHER && packets < GATHERED) this.#gather <<= 1;
    else if (packets < FEW) this.#gather = 0;
    return this.#gather;
  }

  /** How often it may go on sleeping: whatever gives a round something to do ends the sleep. */
  #sleeps(hasUnpolledWork: boolean, most: number): number {
    return hasUnpolledWork ? 1 : Math.max(1, Math.min(SLEEPS, Math.floor(most / MAX_SLEEP)));
  }

  /** A path without a descriptor wakes by the word alone; then so does everybody else. */
  #wait(millis: number, quiet: () => boolean): void {
    const words = this.#words;
    const { sleeping } = this;
    const doorbell = this.#doorbellAt;
    const rings = Atomics.load(words, doorbell);
    Atomics.store(words, sleeping, 1);
    if (quiet()) Atomics.wait(words, doorbell, rings, millis);
    Atomics.store(words, sleeping, 0);
  }
}
