/**
 * How long packets may wait for a device that takes none. Worker only.
 *
 * A kick that ends in EAGAIN, ENOBUFS or with nothing at all is an everyday matter, and so is a packet that a device
 * drops now: a full queue, no memory for a moment, a carrier that blinks. Only that it does not end says that something
 * is wrong, and no errno does. So both are given a time, and then the path has failed, or the packet.
 *
 * The clock is looked at only while nothing moves.
 */

import { millisBetween } from '../kernel/shim.ts';
import { Doubt } from '../memory/layout.ts';

/** `Shim.millis` */
export type Millis = () => number;

/** A path that is there and has taken nothing for so long has failed. */
const STALLED_MILLIS = 1000;
/** Looks at the ring in which nothing moved, at least: a thread that had no CPU has not seen much. */
const STALLED_LOOKS = 16;

/** A device that has dropped one packet for so long may have lost its link: the coordinator is asked. */
const DOUBTED_MILLIS = 20;
/** For so long a device that has one may go on dropping one packet. */
const REFUSED_MILLIS = 250;
/** And one of which that is not known: the kernel tells of a lost carrier after a second (net/core/link_watch.c). */
const UNKNOWN_MILLIS = 1500;
/** For so long a driver that sends by itself may say that its device is down. */
const ABSENT_MILLIS = 20;
/** And for so long one whose device runs, as the coordinator has found. */
const REBUILT_MILLIS = 100;
/** Packets given up one after the other, with none sent between them: then it is the device. */
const REFUSED_PACKETS = 4;
/** After so long without a packet that was given up, the next one has its full time again. */
const FORGIVEN_MILLIS = 10_000;

/** Whether packets that wait still move. */
export class Stall {
  readonly #millis: Millis;
  #mark = 0;
  #looks = 0;
  #began = 0;

  constructor(millis: Millis) {
    this.#millis = millis;
  }

  /** Packets wait, and `mark` is another number whenever one has moved. Whether nothing has for too long. */
  waits(mark: number): boolean {
    if (mark !== this.#mark) {
      this.#mark = mark;
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

/** The path slot's word by which the coordinator is asked whether the device has a link. */
export interface DoubtWord {
  readonly words: Int32Array;
  readonly at: number;
  /** Tells the coordinator to look at it. */
  readonly asked: () => void;
}

/**
 * A zero-copy driver whose rings are being rebuilt, by `ethtool -L` or a change of MTU, answers ENETDOWN as a device does
 * that goes (`mlx5e_xsk_wakeup`, `ixgbe_xsk_wakeup`, `igb_xsk_wakeup`). The coordinator is asked at once which it is.
 */
export class Absence {
  readonly #millis: Millis;
  readonly #words: Int32Array;
  readonly #doubtAt: number;
  readonly #asked: () => void;
  #away = false;
  #began = 0;

  constructor(millis: Millis, { words, at, asked }: DoubtWord) {
    this.#millis = millis;
    this.#words = words;
    this.#doubtAt = at;
    this.#asked = asked;
    words[at] = Doubt.NONE;
  }

  /** Whether the last kick was answered with ENETDOWN: what is given to the driver now may be lost with its rings. */
  get away(): boolean {
    return this.#away;
  }

  /** A kick was answered with ENETDOWN. Whether that has lasted too long. */
  lasts(): boolean {
    if (!this.#away) {
      this.#away = true;
      this.#began = this.#millis();
      Atomics.store(this.#words, this.#doubtAt, Doubt.ASKED);
      this.#asked();
    }
    const linked = Atomics.load(this.#words, this.#doubtAt) === Doubt.LINKED;
    return millisBetween(this.#began, this.#millis()) >= (linked ? REBUILT_MILLIS : ABSENT_MILLIS);
  }

  /** The driver is there. */
  clear(): void {
    if (!this.#away) return;
    this.#away = false;
    this.#words[this.#doubtAt] = Doubt.NONE;
  }
}

/** What becomes of a packet that the device has dropped: it goes again, or is given up, or the device is. */
export type Sentence = 'again' | 'lost' | 'failed';

/**
 * Packets that a device drops when it is given them. Those of a device that is going are to be kept for the path that
 * follows; one that it always drops must not keep those behind it. What tells the two apart is whether it has a link, and
 * what becomes of the next one, so the first time a packet has its full time. When the next one went, each later one has
 * half as much: a stream of such packets must not hold up all others.
 */
export class Refusals {
  readonly #millis: Millis;
  readonly #words: Int32Array;
  readonly #doubtAt: number;
  readonly #asked: () => void;
  /** Cursor of the next packet to be taken, as of the last one that was dropped; and whether that one is there again. */
  #next: number | undefined;
  #again = false;
  #began = 0;
  #patience = REFUSED_MILLIS;
  #lost = 0;
  #lostAt = 0;

  constructor(millis: Millis, { words, at, asked }: DoubtWord) {
    this.#millis = millis;
    this.#words = words;
    this.#doubtAt = at;
    this.#asked = asked;
    words[at] = Doubt.NONE;
  }

  /** What is to be taken lies so many slots further on now. */
  moved(by: number): void {
    if (this.#next !== undefined) this.#next = (this.#next + by) | 0;
  }

  /** The packet at this cursor was dropped, and those before it were sent; if it goes again, it does so at `next`. */
  judge(cursor: number, next: number): Sentence {
    const now = this.#millis();
    const same = cursor === this.#next;
    if (!same && this.#lost > 0) {
      this.#patience >>= 1; // it was the packet, then
      this.#lost = 0;
    }
    if (millisBetween(this.#lostAt, now) >= FORGIVEN_MILLIS) this.#patience = REFUSED_MILLIS;
    this.#next = next | 0;
    if (!same || !this.#again) {
      this.#began = now;
      this.#words[this.#doubtAt] = Doubt.NONE;
    } else if (this.#isRefused(millisBetween(this.#began, now))) {
      if (++this.#lost === REFUSED_PACKETS) return 'failed';
      this.#again = false;
      this.#lostAt = now;
      return 'lost';
    }
    this.#again = true;
    return 'again';
  }

  #isRefused(millis: number): boolean {
    if (this.#patience < REFUSED_MILLIS) return millis >= this.#patience; // it has a link: the packets between went
    const doubt = Atomics.load(this.#words, this.#doubtAt);
    if (doubt === Doubt.NONE && millis >= DOUBTED_MILLIS) {
      Atomics.store(this.#words, this.#doubtAt, Doubt.ASKED);
      this.#asked();
    }
    return millis >= (doubt === Doubt.LINKED ? REFUSED_MILLIS : UNKNOWN_MILLIS);
  }
}
