/**
 * Sends numbered packets over any Wire and records which come back, within two limits.
 *
 * The rate limits the packets per second. The window limits the outstanding packets, so that a machine that is too busy to
 * answer slows the sender down. Otherwise queues in between would overflow, and their drops would look like losses of the
 * failover under test.
 *
 * Real losses must not stop the traffic. So a packet is written off (it is no longer outstanding) when a later packet of its
 * flow has come back, or after `writeOffMillis`. While the window is full and nothing comes back, single packets exceed the
 * window as probes. They find a repaired path within an eighth of the time it was broken, and are too few to overflow a
 * queue. A packet that comes back after it was written off still counts as received.
 *
 * One thread, the wire's. The clock is a parameter: nanoseconds, monotonic.
 */
import { Gaps, Latency, SequenceLedger } from './measurement.ts';

/** What carries numbered packets: UDP or ICMP through the kernel, or a network in memory. Only `wait` waits. */
export interface Wire {
  /**
   * Sends `count` packets of a flow, numbered from `first`.
   *
   * @returns how many it took, from the first on; the generator sends the others again
   */
  send(flow: number, first: number, count: number): number;
  /** Calls `onPacket` for each packet that has come back, and returns how many there were. */
  receive(onPacket: (flow: number, sequence: number) => void): number;
  /** Returns when a packet may have come back, at the latest after so many milliseconds. */
  wait(millis: number): void;
  close(): void;
}

export interface Pace {
  readonly flows: number;
  /** Packets a second, all flows together. */
  readonly rate: number;
  /** Packets that may be outstanding, all flows together. */
  readonly window: number;
  /** How long a packet is outstanding at most. Default: a second. */
  readonly writeOffMillis?: number;
}

/** Packets of one flow in a row: enough to share a system call, few enough that all flows make progress. */
const BURST = 8;
/** Nothing is sent before the rate allows the packets of a millisecond, or a burst: each answer would cost a system call. */
const QUANTUM_SECONDS = 0.001;
/** The most that a pause adds to the packets that may be sent after it. */
const CREDIT_SECONDS = 0.005;
const WRITE_OFF_MILLIS = 1000;
/** Between two probes: the shortest time, and the part of the outage so far. */
const PROBE_NANOS = 2e6;
const PROBE_SHARE = 1 / 8;
/** Outstanding packets are counted by send time, in slots of a hundredth of the time until they are written off. */
const SLOTS_WAITING = 100;
/** More slots than that: a slot must be empty before it is used again. */
const SLOTS = 128;

export class Generator {
  readonly ledger: SequenceLedger;
  readonly latency = new Latency();
  readonly gaps = new Gaps();
  readonly #wire: Wire;
  readonly #pace: Pace;
  readonly #clock: () => number;
  readonly #quantum: number;
  readonly #slotNanos: number;
  readonly #sentIn = new Int32Array(SLOTS);
  /** By flow: the first packet that has neither come back nor been written off for a later one. */
  readonly #base: Float64Array;
  #oldestSlot: number;
  #outstanding = 0;
  #credit = 0;
  #refilled: number;
  #flow = 0;
  #now: number;
  #lastArrival: number;
  #lastProbe: number;

  constructor(wire: Wire, pace: Pace, clock: () => number) {
    this.#wire = wire;
    this.#pace = pace;
    this.#clock = clock;
    this.ledger = new SequenceLedger(pace.flows);
    this.#base = new Float64Array(pace.flows);
    this.#quantum = Math.max(1, Math.min(BURST, Math.floor(pace.rate * QUANTUM_SECONDS), pace.window));
    this.#slotNanos = ((pace.writeOffMillis ?? WRITE_OFF_MILLIS) * 1e6) / SLOTS_WAITING;
    this.#now = clock();
    this.#refilled = this.#lastArrival = this.#lastProbe = this.#now;
    this.#oldestSlot = Math.floor(this.#now / this.#slotNanos);
  }

  /** Packets that have neither come back nor been written off. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Records the packets that have come back; returns how many there were. */
  receive(): number {
    this.#now = this.#clock();
    const received = this.#wire.receive(this.#onPacket);
    if (received > 0) {
      this.gaps.arrived(this.#now);
      this.#lastArrival = this.#now;
    }
    return received;
  }

  /** Sends what rate and window allow now, if that is a quantum or more; returns how many packets were sent. */
  send(): number {
    const now = this.#clock();
    this.#expire(now);
    const { rate, window } = this.#pace;
    const most = Math.max(2 * this.#quantum, rate * CREDIT_SECONDS);
    this.#credit = Math.min(most, this.#credit + ((now - this.#refilled) * rate) / 1e9);
    this.#refilled = now;
    if (this.#credit < this.#quantum) return 0;
    const room = window - this.#outstanding;
    if (room >= this.#quantum) return this.#sendBursts(Math.min(Math.floor(this.#credit), room), now);
    const apart = Math.max(PROBE_NANOS, (now - this.#lastArrival) * PROBE_SHARE);
    if (now - Math.max(this.#lastArrival, this.#lastProbe) < apart) return 0;
    this.#lastProbe = now;
    return this.#sendBursts(1, now);
  }

  /** Milliseconds until the rate allows more, at least 1, or until the next probe may be due. */
  pauseMillis(): number {
    if (this.#pace.window - this.#outstanding < this.#quantum) return PROBE_NANOS / 1e6;
    return Math.max(1, Math.ceil(((this.#quantum - this.#credit) / this.#pace.rate) * 1000));
  }

  /** One closure for all calls. */
  readonly #onPacket = (flow: number, sequence: number): void => {
    const sentAt = this.ledger.received(flow, sequence);
    if (sentAt < 0) return;
    this.latency.record(this.#now - sentAt);
    if (sequence < this.#base[flow]!) return; // written off already
    for (let earlier = this.#base[flow]!; earlier < sequence; earlier++) {
      this.#writeOff(this.ledger.pendingSince(flow, earlier));
    }
    this.#writeOff(sentAt);
    this.#base[flow] = sequence + 1;
  };

  /** Sends bursts, flow by flow, until the wire refuses a packet. */
  #sendBursts(allowed: number, now: number): number {
    let total = 0;
    while (total < allowed) {
      const count = Math.min(BURST, allowed - total);
      const taken = this.#wire.send(this.#flow, this.ledger.next(this.#flow), count);
      this.ledger.sent(this.#flow, taken, now);
      total += taken;
      this.#flow = (this.#flow + 1) % this.#pace.flows;
      if (taken < count) break;
    }
    this.#sentIn[Math.floor(now / this.#slotNanos) % SLOTS]! += total;
    this.#outstanding += total;
    this.#credit -= total;
    return total;
  }

  /** Does nothing if the packet is not outstanding: `sentAt` is -1, or its slot has expired. */
  #writeOff(sentAt: number): void {
    const slot = Math.floor(sentAt / this.#slotNanos);
    if (slot < this.#oldestSlot) return;
    this.#sentIn[slot % SLOTS]!--;
    this.#outstanding--;
  }

  #expire(now: number): void {
    const oldest = Math.floor(now / this.#slotNanos) - SLOTS_WAITING;
    // After a pause longer than all slots together each slot is emptied once.
    for (let slot = Math.max(this.#oldestSlot, oldest - SLOTS); slot < oldest; slot++) {
      this.#outstanding -= this.#sentIn[slot % SLOTS]!;
      this.#sentIn[slot % SLOTS] = 0;
    }
    this.#oldestSlot = Math.max(this.#oldestSlot, oldest);
  }
}
