/**
 * The failover journal: every switch of a queue. The supervisor writes it, any thread reads it. It is a ring of fixed
 * records. The head word is stored last, so a reader sees whole records unless it is {@link JOURNAL_RECORDS} behind, which
 * the sequence number shows.
 */

import { JOURNAL_RECORDS } from './geometry.ts';
import { PATH_NAMES, type PathId, type PathName } from './layout.ts';
import type { Memory } from './shared.ts';

/** One journal record: Float64 each. */
export const JOURNAL_FIELDS = [
  'sequence',
  'port',
  'queue',
  'from',
  'to',
  'reason',
  'detectedNanos',
  'orderedNanos',
  'beganNanos',
  'endedNanos',
  'drained',
  'rescued',
] as const;

/** Why a queue changed its path. The order is the stored number. */
export const REASONS = [
  'start',
  'link down', // NEWLINK without IFF_UP
  'link gone', // DELLINK
  'carrier lost',
  'kick failed', // a kick returned ENETDOWN or ENXIO before an rtnetlink message came
  'device replaced',
  'path ready',
  'path failed',
  'close',
  'configured', // the VF gets another MTU or MAC address
  'coordinator replaced', // its predecessor had the path half open, and died
  'stopped', // the port leaves the traffic to the kernel
  'maintenance', // the platform is about to pause the machine: the VF is left before
] as const;
/** Why a queue changed the path it transmits on. */
export type Reason = (typeof REASONS)[number];

/** One queue's change of path. Times are CLOCK_MONOTONIC nanoseconds, as `process.hrtime()` counts them. */
export interface Failover {
  /** Number of the record, from 0, over all ports opened together. */
  readonly sequence: number;
  /** Number of the port, in the order the ports were opened. */
  readonly port: number;
  /** The queue that changed. */
  readonly queue: number;
  /** The path it transmitted on before. */
  readonly from: PathName;
  /** The path it transmits on now. */
  readonly to: PathName;
  /** Why it changed. */
  readonly reason: Reason;
  /** When the supervisor or the coordinator detected the cause. */
  readonly detectedNanos: number;
  /** When the supervisor ordered the switch. */
  readonly orderedNanos: number;
  /** When the worker began to carry out the order. */
  readonly beganNanos: number;
  /** When the worker had carried it out. */
  readonly endedNanos: number;
  /** Packets that the worker received from the old path after the order. */
  readonly drained: number;
  /** Packets that it took back from the old path's transmit ring and sent on the new one. */
  readonly rescued: number;
}

export class Journal {
  readonly #memory: Memory;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /** Records written so far. */
  get head(): number {
    return Atomics.load(this.#memory.words, this.#memory.layout.journalHead >> 2);
  }

  /** Supervisor only. */
  append(record: Omit<Failover, 'sequence'>): Failover {
    const sequence = this.head;
    const full: Failover = { sequence, ...record };
    const { doubles } = this.#memory;
    const at = this.#at(sequence);
    JOURNAL_FIELDS.forEach((field, i) => {
      const value = full[field];
      if (field === 'from' || field === 'to') doubles[at + i] = PATH_NAMES.indexOf(value as PathName);
      else if (field === 'reason') doubles[at + i] = REASONS.indexOf(value as Reason);
      else doubles[at + i] = Number(value);
    });
    Atomics.store(this.#memory.words, this.#memory.layout.journalHead >> 2, sequence + 1);
    return full;
  }

  /** Records from `sequence` on, oldest first, without overwritten ones. */
  since(sequence: number): Failover[] {
    const { head } = this;
    const records: Failover[] = [];
    for (let i = Math.max(sequence, head - JOURNAL_RECORDS, 0); i < head; i++) records.push(this.#read(i));
    // A record that was overwritten meanwhile has another number; the one after it may be half written.
    const oldest = this.head - JOURNAL_RECORDS;
    return this.head === head ? records : records.filter((record) => record.sequence > oldest);
  }

  #at(sequence: number): number {
    const { journal, journalRecordBytes } = this.#memory.layout;
    return (journal + (sequence % JOURNAL_RECORDS) * journalRecordBytes) / 8;
  }

  #read(sequence: number): Failover {
    const { doubles } = this.#memory;
    const at = this.#at(sequence);
    const value = (field: (typeof JOURNAL_FIELDS)[number]): number =>
      doubles[at + JOURNAL_FIELDS.indexOf(field)]!;
    return {
      sequence: value('sequence'),
      port: value('port'),
      queue: value('queue'),
      from: PATH_NAMES[value('from') as PathId],
      to: PATH_NAMES[value('to') as PathId],
      reason: REASONS[value('reason')]!,
      detectedNanos: value('detectedNanos'),
      orderedNanos: value('orderedNanos'),
      beganNanos: value('beganNanos'),
      endedNanos: value('endedNanos'),
      drained: value('drained'),
      rescued: value('rescued'),
    };
  }
}
