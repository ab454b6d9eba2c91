/**
 * The ledger of numbered packets: which were sent, which came back, how often and in what order.
 *
 * Each flow numbers its packets from 0 without gaps. The ledger belongs to the thread that sends and
 * receives, and keeps the send time of every packet until it has come back, so that each loss can be
 * laid to what happened at that moment. They are kept in blocks of 4096 (37 KB), and a block goes when
 * all of it has come back: memory grows with losses, not with time.
 *
 * A packet may be lost after the moment it was sent; a window of causes must start earlier than the
 * cause by the time a packet is under way.
 */

/** What became of numbered packets. */
export interface Tally {
  readonly sent: number;
  /** Distinct packets that came back. `sent = received + lost` once nothing is under way any more. */
  readonly received: number;
  /** Sent and not come back, so far. */
  readonly lost: number;
  /** Copies beyond the first. */
  readonly duplicated: number;
  /** First copies that came after a packet of the same flow with a higher number. */
  readonly reordered: number;
  /** Packets that were never sent: of another run, or made up. */
  readonly unknown: number;
}

/** A stretch of send times, in nanoseconds of one clock, `from` included and `to` not. */
export interface Window {
  /** A cause of losses, in the report's `windows`. */
  readonly name: string;
  readonly from: number;
  readonly to: number;
}

/** What {@link SequenceLedger.received} says about a packet that is not a first copy. */
export const DUPLICATE = -1;
export const UNKNOWN = -2;

/** Where losses go that no window explains. */
export const UNEXPLAINED = 'unexplained';

/** Large enough that a block's two arrays cost little beside their contents, small enough to free soon. */
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
  /** `undefined` once all of a block has come back: then only copies can still arrive. */
  readonly blocks: (Block | undefined)[] = [];
}

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

  /** The flow's next `count` packets have gone out. */
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
   * A packet has come back.
   *
   * @returns when it was sent if this is its first copy, else {@link DUPLICATE} or {@link UNKNOWN}
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

  /** When a packet was sent that has not come back; -1 for every other. */
  pendingSince(flow: number, sequence: number): number {
    const block = this.#flows[flow]!.blocks[Math.floor(sequence / BLOCK)];
    const slot = sequence % BLOCK;
    if (block === undefined || sequence >= this.#flows[flow]!.sent || block.seen[slot] === 1) return -1;
    return block.sentAt[slot]!;
  }

  /** Of one flow, or of all. `unknown` belongs to no flow and is 0 for one. */
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

  /** The send times of everything that has not come back, ascending. */
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

  /** How many of the packets sent in a stretch of time have not come back. */
  lostBetween(fromNanos: number, toNanos: number): number {
    return this.lostAt().filter((at) => at >= fromNanos && at < toNanos).length;
  }
}

/**
 * Lays each loss to the first window that holds its send time.
 *
 * @returns counts by window name (windows of one name add up), and `unexplained`, always present
 */
export function attribute(lostAt: Float64Array, windows: readonly Window[]): Record<string, number> {
  const counts: Record<string, number> = { [UNEXPLAINED]: 0 };
  for (const { name } of windows) counts[name] ??= 0;
  for (const at of lostAt) {
    const window = windows.find(({ from, to }) => at >= from && at < to);
    counts[window?.name ?? UNEXPLAINED]!++;
  }
  return counts;
}
