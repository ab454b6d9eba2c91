/**
 * Two instruments of the traffic thread: how long packets were under way, and how long none arrived.
 * Both take nanoseconds, cost a few instructions a packet and a constant amount of memory.
 */

/** Each power of two is cut into this many steps, so a quantile is at most 1/32 too high. */
const STEPS = 32;
const STEPS_SHIFT = 5;
/** Times from 0 to 2^32 ns (4.3 s); what is longer counts in the last step, and exactly in `max`. */
const OCTAVES = 32;

export class Latency {
  readonly #counts = new Float64Array(OCTAVES * STEPS);
  #total = 0;
  #max = 0;

  record(nanos: number): void {
    const value = nanos <= 0 ? 0 : nanos >= 0xffff_ffff ? 0xffff_ffff : Math.floor(nanos);
    this.#counts[step(value)]!++;
    this.#total++;
    if (nanos > this.#max) this.#max = nanos;
  }

  get max(): number {
    return this.#max;
  }

  /** The time that a share of all packets did not exceed, 0 when there were none. `share` from 0 to 1. */
  quantile(share: number): number {
    let left = Math.ceil(share * this.#total);
    for (let i = 0; i < this.#counts.length; i++) {
      left -= this.#counts[i]!;
      if (left <= 0) return Math.min(upperBound(i), this.#max);
    }
    return this.#max;
  }
}

/** Below 32 each value has its step; above, five bits after the leading one choose it. */
function step(value: number): number {
  if (value < STEPS) return value;
  const shift = 31 - Math.clz32(value) - STEPS_SHIFT;
  return (shift + 1) * STEPS + ((value >>> shift) & (STEPS - 1));
}

function upperBound(index: number): number {
  if (index < STEPS) return index;
  const shift = Math.floor(index / STEPS) - 1;
  return (STEPS + (index % STEPS) + 1) * 2 ** shift - 1;
}

export interface Gap {
  /** When the last packet before it arrived. */
  readonly atNanos: number;
  readonly nanos: number;
}

/** The longest stretches without an arrival, longest first. */
export class Gaps {
  readonly #keep: number;
  readonly #longest: Gap[] = [];
  #last = -1;

  constructor(keep = 16) {
    this.#keep = keep;
  }

  /** Time so far since the last arrival counts as well: call it once more, at the end. */
  arrived(atNanos: number): void {
    if (this.#last >= 0) this.#consider({ atNanos: this.#last, nanos: atNanos - this.#last });
    this.#last = atNanos;
  }

  get longest(): readonly Gap[] {
    return this.#longest;
  }

  #consider(gap: Gap): void {
    const shortest = this.#longest.length < this.#keep ? -1 : this.#longest[this.#keep - 1]!.nanos;
    if (gap.nanos <= shortest) return;
    const place = this.#longest.findIndex(({ nanos }) => nanos < gap.nanos);
    this.#longest.splice(place < 0 ? this.#longest.length : place, 0, gap);
    if (this.#longest.length > this.#keep) this.#longest.pop();
  }
}
