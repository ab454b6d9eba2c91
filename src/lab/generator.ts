/**
 * Sends numbered packets at a pace over any Wire and keeps the ledger of what comes back.
 *
 * Two limits at once. The rate says how many packets a second are wanted. The window says how many may
 * be outstanding: a machine too busy to answer slows the sender down instead of overflowing the queues
 * in between, whose drops would look like losses of the failover under test.
 *
 * Real losses must not stop the traffic, so a packet is written off, no longer outstanding, when a later
 * one of its flow has come back, or after `writeOffMillis`. While the window is full and nothing comes back,
 * single packets go past it as probes: they find the healed path within an eighth of the time it was
 * broken, and are too few to overflow anything. What is written off may still come back; the ledger
 * counts it whenever it does.
 *
 * One thread, the wire's. The clock is passed in: nanoseconds that never go backwards.
 */
import { Gaps, Latency } from './arrivals.ts';
import { SequenceLedger } from './sequence.ts';
import type { Wire } from './wire.ts';

export interface Pace {
  readonly flows: number;
  /** Packets a second, of all flows together. */
  readonly rate: number;
  /** Packets that may be unanswered, of all flows together. */
  readonly window: number;
  /** How long an unanswered packet fills its place in the window at most; a second unless it is given. */
  readonly writeOffMillis?: number;
}

/** Packets of one flow in a row: enough to share a system call, few enough that all flows keep moving. */
const BURST = 8;
/** Sending waits until a millisecond's worth may go (or a burst), lest each answer cost a wake-up and a call. */
const QUANTUM_SECONDS = 0.001;
/** What was not sent in time is forgone beyond this, lest a pause be followed by a flood. */
const CREDIT_SECONDS = 0.005;
const WRITE_OFF_MILLIS = 1000;
/** Probes: the shortest time between two, and the share of the outage so far that two lie apart. */
const PROBE_NANOS = 2e6;
const PROBE_SHARE = 1 / 8;
/** Outstanding packets are counted by when they were sent, in slots of a hundredth of the time until they are written off. */
const SLOTS_WAITING = 100;
/** More slots than that, so that a slot is empty before it is used again. */
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
  /** By flow: the first packet that is neither back nor written off for a later one. */
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

  /** Sent, not come back and not written off. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Takes in what has come back; returns how many packets that were. */
  receive(): number {
    this.#now = this.#clock();
    const received = this.#wire.receive(this.#onPacket);
    if (received > 0) {
      this.gaps.arrived(this.#now);
      this.#lastArrival = this.#now;
    }
    return received;
  }

  /** Sends what rate and window allow now, if that is worth a call; returns how many packets went. */
  send(): number {
    const now = this.#clock();
    this.#expire(now);
    const { rate, window } = this.#pace;
    const most = Math.max(2 * this.#quantum, rate * CREDIT_SECONDS);
    this.#credit = Math.min(most, this.#credit + ((now - this.#refilled) * rate) / 1e9);
    this.#refilled = now;
    if (this.#credit < this.#quantum) return 0;
    const room = window - this.#outstanding;
    if (room >= this.#quantum) return this.#offer(Math.min(Math.floor(this.#credit), room), now);
    const apart = Math.max(PROBE_NANOS, (now - this.#lastArrival) * PROBE_SHARE);
    if (now - Math.max(this.#lastArrival, this.#lastProbe) < apart) return 0;
    this.#lastProbe = now;
    return this.#offer(1, now);
  }

  /** Milliseconds until the rate allows more, at least 1, or until the next probe may be due. */
  pauseMillis(): number {
    if (this.#pace.window - this.#outstanding < this.#quantum) return PROBE_NANOS / 1e6;
    return Math.max(1, Math.ceil(((this.#quantum - this.#credit) / this.#pace.rate) * 1000));
  }

  /** One closure for the generator's life, not one a call. */
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

  /** Sends in bursts, flow by flow, until the wire refuses. */
  #offer(allowed: number, now: number): number {
    let total = 0;
    while (total < allowed) {
      const count = Math.min(BURST, allowed - total);
      const went = this.#wire.send(this.#flow, this.ledger.next(this.#flow), count);
      this.ledger.sent(this.#flow, went, now);
      total += went;
      this.#flow = (this.#flow + 1) % this.#pace.flows;
      if (went < count) break;
    }
    this.#sentIn[Math.floor(now / this.#slotNanos) % SLOTS]! += total;
    this.#outstanding += total;
    this.#credit -= total;
    return total;
  }

  /** No longer outstanding, unless it already is not: `sentAt` -1, or in a slot that has expired. */
  #writeOff(sentAt: number): void {
    const slot = Math.floor(sentAt / this.#slotNanos);
    if (slot < this.#oldestSlot) return;
    this.#sentIn[slot % SLOTS]!--;
    this.#outstanding--;
  }

  #expire(now: number): void {
    const oldest = Math.floor(now / this.#slotNanos) - SLOTS_WAITING;
    // After a pause longer than all slots together each needs emptying once, not once a lap.
    for (let slot = Math.max(this.#oldestSlot, oldest - SLOTS); slot < oldest; slot++) {
      this.#outstanding -= this.#sentIn[slot % SLOTS]!;
      this.#sentIn[slot % SLOTS] = 0;
    }
    this.#oldestSlot = Math.max(this.#oldestSlot, oldest);
  }
}
