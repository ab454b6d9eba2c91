/**
 * How long packets may wait for a device that takes none. Worker only.
 *
 * A kick often ends in EAGAIN, in ENOBUFS or with no packet taken, and a device may drop a packet: its queue is full, memory
 * is short for a moment, or its carrier blinks. No errno tells such a moment from a lasting fault, only its duration does.
 * So each class here gives the device, or the packet, a time. After that the path has failed, or the packet is given up.
 *
 * The clock is read only while nothing moves.
 */
import { millisBetween } from '../kernel/shim.ts';
import { Doubt } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { SETTLE_NANOS } from './attached-path.ts';

/** `Shim.millis` */
export type Millis = () => number;

/** A device that is there and takes nothing for so long has failed. */
const STALLED_MILLIS = 1000;
/** And at least so many looks at the ring: a thread without CPU has seen few. */
const STALLED_LOOKS = 16;

/** A device that drops one packet for so long may have lost its link: the supervisor is asked. */
const DOUBTED_MILLIS = 20;
/** A device that has a link may drop one packet for so long. */
const REFUSED_MILLIS = 250;
/** The same while the link's state is unknown: the kernel reports a lost carrier after a second (net/core/link_watch.c). */
const UNKNOWN_MILLIS = 1500;
/** A zero-copy driver may answer ENETDOWN for so long. */
const DOWN_MILLIS = 20;
/** The same if the answer was that its device is up. */
const REBUILT_MILLIS = 100;
/** After so many packets given up in a row, the device has failed. */
const REFUSED_PACKETS = 4;
/** After so long without a packet given up, the next one gets the full time again. */
const FORGIVEN_MILLIS = 10_000;

/** A driver that has sent nothing for so long has stopped. It reads its ring in bursts, a few microseconds apart. */
const IDLE_NANOS = 5e6;

/** Whether waiting packets still move. */
export class Stall {
  readonly #millis: Millis;
  #progress = 0;
  #looks = 0;
  #began = 0;

  constructor(millis: Millis) {
    this.#millis = millis;
  }

  /**
   * Call it while packets wait.
   *
   * @param progress another number whenever a packet has moved
   * @returns whether nothing has moved for too long
   */
  hasFailed(progress: number): boolean {
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.#looks = 0;
      return false;
    }
    if (this.#looks++ === 0) this.#began = this.#millis();
    return this.#looks >= STALLED_LOOKS && millisBetween(this.#began, this.#millis()) >= STALLED_MILLIS;
  }

  /** Nothing waits. */
  clear(): void {
    this.#looks = 0;
  }
}

/** The path slot's word that asks whether the device has a link. */
export interface DoubtWord {
  readonly words: Int32Array;
  readonly at: number;
  /** Wakes the supervisor to look at it. */
  readonly asked: () => void;
}

/**
 * ENETDOWN from a zero-copy driver. Its device goes down, or its rings are being rebuilt, by `ethtool -L` or a change of MTU
 * (`mlx5e_xsk_wakeup`, `ixgbe_xsk_wakeup`, `igb_xsk_wakeup`). The supervisor is asked at once which it is.
 */
export class DriverDown {
  readonly #millis: Millis;
  readonly #words: Int32Array;
  readonly #doubtAt: number;
  readonly #asked: () => void;
  #isDown = false;
  #began = 0;

  constructor(millis: Millis, { words, at, asked }: DoubtWord) {
    this.#millis = millis;
    this.#words = words;
    this.#doubtAt = at;
    this.#asked = asked;
    words[at] = Doubt.NONE;
  }

  /** Whether the last kick ended in ENETDOWN. Packets given to the driver now may be lost with its rings. */
  get isDown(): boolean {
    return this.#isDown;
  }

  /** A kick ended in ENETDOWN. @returns whether that has lasted too long */
  hasFailed(): boolean {
    if (!this.#isDown) {
      this.#isDown = true;
      this.#began = this.#millis();
      Atomics.store(this.#words, this.#doubtAt, Doubt.ASKED);
      this.#asked();
    }
    const linked = Atomics.load(this.#words, this.#doubtAt) === Doubt.LINKED;
    return millisBetween(this.#began, this.#millis()) >= (linked ? REBUILT_MILLIS : DOWN_MILLIS);
  }

  /** A kick ended otherwise. */
  clear(): void {
    if (!this.#isDown) return;
    this.#isDown = false;
    this.#words[this.#doubtAt] = Doubt.NONE;
  }
}

/** What to do after the device has dropped a packet: send it again, give it up, or give the device up. */
export type DropDecision = 'retry' | 'lost' | 'failed';

/**
 * Packets that a device drops when it gets them. The packets of a device that goes down are kept for the path that follows.
 * But a packet that is always dropped must not hold up those behind it. Two facts tell the two cases apart: whether the
 * device has a link, and whether it sends the next packet. So the first packet gets its full time. If the next packet is sent,
 * each later one gets half as much, so that a stream of such packets does not hold up all others.
 */
export class Drops {
  readonly #millis: Millis;
  readonly #words: Int32Array;
  readonly #doubtAt: number;
  readonly #asked: () => void;
  /** Cursor of the packet that is sent next, as of the last drop; and whether that is the dropped packet again. */
  #next: number | undefined;
  #retried = false;
  #began = 0;
  #limit = REFUSED_MILLIS;
  #lost = 0;
  #lostAt = 0;

  constructor(millis: Millis, { words, at, asked }: DoubtWord) {
    this.#millis = millis;
    this.#words = words;
    this.#doubtAt = at;
    this.#asked = asked;
    words[at] = Doubt.NONE;
  }

  /** The packets that wait have moved by so many slots. */
  shift(by: number): void {
    if (this.#next !== undefined) this.#next = (this.#next + by) | 0;
  }

  /** The packet at `cursor` was dropped, and all before it were sent. If it is retried, it will be at `next`. */
  decide(cursor: number, next: number): DropDecision {
    const now = this.#millis();
    const same = cursor === this.#next;
    if (!same && this.#lost > 0) {
      this.#limit >>= 1; // a packet was sent since: the fault was the packet's
      this.#lost = 0;
    }
    if (millisBetween(this.#lostAt, now) >= FORGIVEN_MILLIS) this.#limit = REFUSED_MILLIS;
    this.#next = next | 0;
    if (!same || !this.#retried) {
      this.#began = now;
      this.#words[this.#doubtAt] = Doubt.NONE;
    } else if (this.#isOver(millisBetween(this.#began, now))) {
      if (++this.#lost === REFUSED_PACKETS) return 'failed';
      this.#retried = false;
      this.#lostAt = now;
      return 'lost';
    }
    this.#retried = true;
    return 'retry';
  }

  #isOver(millis: number): boolean {
    if (this.#limit < REFUSED_MILLIS) return millis >= this.#limit; // it has a link: it sent packets in between
    const doubt = Atomics.load(this.#words, this.#doubtAt);
    if (doubt === Doubt.NONE && millis >= DOUBTED_MILLIS) {
      Atomics.store(this.#words, this.#doubtAt, Doubt.ASKED);
      this.#asked();
    }
    return millis >= (doubt === Doubt.LINKED ? REFUSED_MILLIS : UNKNOWN_MILLIS);
  }
}

/** A zero-copy driver whose path is left: it may finish what it has read, for as long as it makes progress. */
export class DriverDrain {
  #order = 0;
  #progress = 0;
  #movedAt = 0;

  /** Whether this order to leave is new: `order` is its owner word. */
  isNew(order: number): boolean {
    return order !== this.#order;
  }

  /**
   * Whether the driver has stopped, or has had time enough.
   *
   * @param progress another number whenever a packet has moved
   * @param waited nanoseconds since the order was seen
   */
  isOver(order: number, progress: number, waited: number): boolean {
    const now = nowNanos();
    if (this.isNew(order) || progress !== this.#progress) {
      this.#order = order;
      this.#progress = progress;
      this.#movedAt = now;
    }
    return now - this.#movedAt >= IDLE_NANOS || waited >= SETTLE_NANOS;
  }
}
