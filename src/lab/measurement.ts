/**
 * What the traffic thread measures: which numbered packets were lost, duplicated or reordered, how long packets were under
 * way, and how long none arrived. Times are in nanoseconds of one clock. One thread.
 */
import type { Tally } from './reports.ts';

/** What {@link SequenceLedger.received} returns for a packet that is not a first copy. */
export const DUPLICATE = -1;
export const UNKNOWN = -2;

/** Large enough that the overhead of a block's two arrays is small, small enough that blocks are freed soon. */
const BLOCK = 4096;

interface Block {
  readonly sentAt: Float64Array;
  /** 1 when the packet has come back. */
  readonly seen: Uint8Array;
  missing: number;
}

class Flow {
  sent = 0;
  received = 0;
  duplicated = 0;
  reordered = 0;
  highest = -1;
  /** `undefined` once all packets of a block have come back: then only copies can still arrive. */
  readonly blocks: (Block | undefined)[] = [];
}

/**
 * Which numbered packets were sent, which came back, how often and in what order. Each flow numbers its packets from 0
 * without gaps.
 *
 * The ledger keeps the send time of a packet until the packet has come back, so that a loss can be compared with its cause.
 * Send times are in blocks of 4096 packets (37 KB); a block is freed when all its packets have come back. So memory grows
 * with losses, not with time. A packet may be lost later than it was sent: a window of losses must begin one transit time
 * before its cause.
 */
export class SequenceLedger {
  readonly #flows: readonly Flow[];
  #unknown = 0;
  #sent = 0;
  #received = 0;

  /** @param flows how many, numbered from 0 */
  constructor(flows: number) {
    this.#flows = Array.from({ length: flows }, () => new Flow());
  }

  get sentTotal(): number {
    return this.#sent;
  }

  get receivedTotal(): number {
    return this.#received;
  }

  /** The number of the flow's next packet. */
  next(flow: number): number {
    return this.#flows[flow]!.sent;
  }

  /** Records that the flow's next `count` packets were sent. */
  sent(flow: number, count: number, atNanos: number): void {
    const f = this.#flows[flow]!;
    for (let i = 0; i < count; i++) {
      const slot = f.sent % BLOCK;
      if (slot === 0) {
        f.blocks.push({ sentAt: new Float64Array(BLOCK), seen: new Uint8Array(BLOCK), missing: BLOCK });
      }
      f.blocks[f.blocks.length - 1]!.sentAt[slot] = atNanos;
      f.sent++;
    }
    this.#sent += count;
  }

  /**
   * Records that a packet came back.
   *
   * @returns when it was sent if it is the first copy, else {@link DUPLICATE} or {@link UNKNOWN}
   */
  received(flow: number, sequence: number): number {
    const f = this.#flows[flow];
    if (f === undefined || !(sequence >= 0 && sequence < f.sent)) {
      this.#unknown++;
      return UNKNOWN;
    }
    const index = Math.floor(sequence / BLOCK);
    const block = f.blocks[index];
    const slot = sequence % BLOCK;
    if (block === undefined || block.seen[slot] === 1) {
      f.duplicated++;
      return DUPLICATE;
    }
    block.seen[slot] = 1;
    if (--block.missing === 0) f.blocks[index] = undefined;
    if (sequence < f.highest) f.reordered++;
    else f.highest = sequence;
    f.received++;
    this.#received++;
    return block.sentAt[slot]!;
  }

  /** When the packet was sent, if it has not come back; else -1. */
  pendingSince(flow: number, sequence: number): number {
    const block = this.#flows[flow]!.blocks[Math.floor(sequence / BLOCK)];
    const slot = sequence % BLOCK;
    if (block === undefined || sequence >= this.#flows[flow]!.sent || block.seen[slot] === 1) return -1;
    return block.sentAt[slot]!;
  }

  /** Of one flow, or of all. `unknown` packets belong to no flow: for a single flow the count is 0. */
  tally(flow?: number): Tally {
    const flows = flow === undefined ? this.#flows : [this.#flows[flow]!];
    const sum = (of: (f: Flow) => number): number => flows.reduce((total, f) => total + of(f), 0);
    const [sent, received] = [sum((f) => f.sent), sum((f) => f.received)];
    return {
      sent,
      received,
      lost: sent - received,
      duplicated: sum((f) => f.duplicated),
      reordered: sum((f) => f.reordered),
      unknown: flow === undefined ? this.#unknown : 0,
    };
  }

  /** The send times of all packets that have not come back, ascending. */
  lostAt(): Float64Array {
    const times: number[] = [];
    for (const f of this.#flows) {
      f.blocks.forEach((block, index) => {
        if (block === undefined) return;
        const used = Math.min(BLOCK, f.sent - index * BLOCK);
        for (let slot = 0; slot < used; slot++) if (block.seen[slot] === 0) times.push(block.sentAt[slot]!);
      });
    }
    return Float64Array.from(times).sort();
  }
}

/** Steps of a histogram per power of two: a quantile is at most 1/32 too high. */
const STEPS = 32;
const STEPS_SHIFT = 5;
/** Times from 0 to 2^32 ns (4.3 s). A longer time counts in the last step; `max` is exact. */
const OCTAVES = 32;

/** A histogram of times. Constant memory, a few instructions a packet. */
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

  /** The time that a share of all packets did not exceed, 0 without packets. `share` is from 0 to 1. */
  quantile(share: number): number {
    let left = Math.ceil(share * this.#total);
    for (let i = 0; i < this.#counts.length; i++) {
      left -= this.#counts[i]!;
      if (left <= 0) return Math.min(upperBound(i), this.#max);
    }
    return this.#max;
  }
}

/** Values below 32 have a step each. For larger ones the five bits after the leading one choose the step. */
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

/** The longest times without an arrival, longest first. */
export class Gaps {
  readonly #keep: number;
  readonly #longest: Gap[] = [];
  #last = -1;

  constructor(keep = 16) {
    this.#keep = keep;
  }

  /** Call it once more at the end, so that the time since the last arrival counts too. */
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
