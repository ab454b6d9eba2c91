/**
 * The idle policy of a worker.
 *
 * - `poll`: keeps polling. Lowest latency, one core each.
 * - `adaptive`: polls {@link SPINS} more times, some tens of microseconds, then sleeps until a path has packets, the
 *   doorbell rings, or 200 ms have passed. A packet resets the count.
 * - `interrupt`: sleeps at the first empty round. At a high packet rate it moderates its wake-ups, as a network card
 *   moderates its interrupts: it sleeps for a time, at most {@link MAX_GATHER} and the kernel's timer slack, and packets do
 *   not end that sleep. The doorbell does.
 *
 * The mode is a word of the worker's block, so it may change at any time: the worker reads it when a round was empty. The
 * supervisor writes it, see coordinator/queue-spread.ts.
 *
 * The sleep is poll(2) over the paths' descriptors and the doorbell; with a path that has no descriptor (memory paths) it
 * is `Atomics.wait` on the doorbell word. A sleep that packets end begins with one more poll after the worker has stored
 * "asleep", so it misses no packet.
 */
import type { Shim } from '../kernel/shim.ts';
import { SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { NO_ARRIVALS } from '../paths/attached-path.ts';

/** The word of each mode. */
export const IdleCode = { poll: 0, adaptive: 1, interrupt: 2 } as const;
const { poll: POLL, interrupt: INTERRUPT } = IdleCode;

const SPINS = 200;
/** Milliseconds of one poll(2): a thread can only be ended when that returns. */
const MAX_SLEEP = 50;
/** Sleeps in a row before the next round: a wake-up without a round takes half the time, on cold caches. */
const SLEEPS = 4;
const UNPOLLED_SLEEP = 1;
const POLLIN = 1;

/** Packets within one millisecond of the clock that begin moderation: several times as many as one ping-pong makes. */
const MANY = 256;
/** Packets that a moderated sleep should collect: a small part of a ring, and a small cost of the sleep for each. */
const GATHERED = 256;
/** Fewer packets than these in the longest one end moderation. */
const FEW = 24;
/** Microseconds: as network cards use at high rates. */
const MAX_GATHER = 200;
const MIN_GATHER = 25;

export class Idle {
  readonly #modeAt: number;
  readonly #shim: Shim;
  readonly #words: Int32Array;
  readonly #stopAt: number;
  readonly #doorbellAt: number;
  /** Index of the word that is 1 while the worker sleeps. */
  readonly sleeping: number;
  readonly #doorbellFd: number;
  readonly #pollfds: Int32Array;
  readonly #scratch = new Uint8Array(8);
  #empty = 0;
  /** Packets handled since the clock last changed, or since the last moderated sleep. */
  #packets = 0;
  #clock = 0;
  /** Microseconds of the moderated sleeps; 0 without moderation. */
  #gather = 0;
  /** For the next sleep: descriptors in `#pollfds`, and whether a path has none. A sleep allocates nothing. */
  #watched = 0;
  #withoutFd = false;

  constructor(shim: Shim, memory: Memory, queue: number) {
    this.#shim = shim;
    this.#words = memory.words;
    const worker = memory.workers[queue]!;
    this.#modeAt = worker.at('idleMode');
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
    const mode = this.#words[this.#modeAt];
    if (mode === POLL) return false;
    return mode === INTERRUPT || ++this.#empty > SPINS;
  }

  /** Adds packets of a round that {@link shouldSleep} is not called for. */
  also(packets: number): void {
    this.#packets += packets;
  }

  /** Adds a descriptor that ends the next sleep, -1 of a path that has none. */
  watch(fd: number): void {
    if (fd >= 0) this.#pollfds[2 * this.#watched++] = fd;
    else if (fd !== NO_ARRIVALS) this.#withoutFd = true;
  }

  /**
   * @param hasUnpolledWork packets wait that no descriptor reports
   * @param most milliseconds to sleep at most
   * @param quiet polls once more, after others can see that this worker sleeps: whether it found nothing
   */
  sleep(hasUnpolledWork: boolean, most: number, quiet: () => boolean): void {
    const millis = hasUnpolledWork ? UNPOLLED_SLEEP : Math.min(MAX_SLEEP, Math.ceil(most));
    const pollfds = this.#pollfds;
    const withoutFd = this.#withoutFd;
    let count = this.#watched;
    this.#watched = 0;
    this.#withoutFd = false;
    if (withoutFd) {
      this.#wait(millis, quiet);
      return;
    }
    const gather = this.#words[this.#modeAt] === INTERRUPT ? this.#pace() : 0;
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
        // The word is incremented before the eventfd is written: a failed write costs only one sleep.
        if (Atomics.load(this.#words, doorbell) !== rings) break;
      }
    }
    Atomics.store(this.#words, sleeping, 0);
    if (woken <= 0) return;
    if (pollfds[2 * count - 1]! >>> 16) this.#shim.read(this.#doorbellFd, this.#scratch, 8);
  }

  /** Microseconds of the next moderated sleep; 0: a packet ends the sleep. Adapts to the packet rate. */
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

  /** How many sleeps may follow each other: any work for a round ends them. */
  #sleeps(hasUnpolledWork: boolean, most: number): number {
    return hasUnpolledWork ? 1 : Math.max(1, Math.min(SLEEPS, Math.floor(most / MAX_SLEEP)));
  }

  /** With a path that has no descriptor only the word wakes the worker: also for the other paths. */
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
