/**
 * The words that the traffic thread and its owner share: counts one way, the wish to stop the other.
 * Counts are plain and may be a few microseconds old; each has one writer. No messages: the traffic
 * thread never returns to its event loop while it runs.
 */

export interface TrafficProgress {
  readonly sent: number;
  /** Distinct packets that came back. */
  readonly received: number;
  /** Sent in the last second and not come back yet. */
  readonly outstanding: number;
  readonly icmpSent: number;
  readonly icmpReceived: number;
  /** The longest stretch without a UDP arrival so far, in microseconds. */
  readonly longestGapMicros: number;
}

const FIELDS = ['sent', 'received', 'outstanding', 'icmpSent', 'icmpReceived', 'longestGapMicros'] as const;
const STOP = 0;
const SETTLE = 1;
/** Control words and counts on cache lines of their own. */
const COUNTS_OFFSET = 64;
const BYTES = COUNTS_OFFSET + FIELDS.length * 8;

export class Progress {
  readonly buffer: SharedArrayBuffer;
  readonly #control: Int32Array;
  readonly #counts: Float64Array;

  constructor(buffer = new SharedArrayBuffer(BYTES)) {
    this.buffer = buffer;
    this.#control = new Int32Array(buffer, 0, 2);
    this.#counts = new Float64Array(buffer, COUNTS_OFFSET, FIELDS.length);
  }

  write(progress: TrafficProgress): void {
    for (let i = 0; i < FIELDS.length; i++) this.#counts[i] = progress[FIELDS[i]!];
  }

  read(): TrafficProgress {
    const [sent, received, outstanding, icmpSent, icmpReceived, longestGapMicros] = this.#counts;
    return {
      ...{ sent: sent!, received: received!, outstanding: outstanding! },
      ...{ icmpSent: icmpSent!, icmpReceived: icmpReceived!, longestGapMicros: longestGapMicros! },
    };
  }

  stop(settleMillis: number): void {
    Atomics.store(this.#control, SETTLE, settleMillis);
    Atomics.store(this.#control, STOP, 1);
  }

  /** How long to wait for stragglers, or -1 while traffic is to go on. */
  stopping(): number {
    return Atomics.load(this.#control, STOP) === 0 ? -1 : Atomics.load(this.#control, SETTLE);
  }
}
