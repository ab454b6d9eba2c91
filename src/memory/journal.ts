/**
 * The failover journal: what happened to which queue, when. Written by the coordinator, read by any
 * thread. A ring of fixed records; the head word is stored last, so a reader sees whole records unless
 * it is {@link JOURNAL_RECORDS} behind, which it notices by the sequence number.
 */

import { JOURNAL_RECORDS } from './geometry.ts';
import { PATH_NAMES, Path, type PathId, type PathName } from './layout.ts';
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
  'kick failed', // the kernel answered ENETDOWN or ENXIO before rtnetlink spoke
  'device replaced',
  'path ready',
  'path failed',
  'close',
  'coordinator replaced', // another one had begun it, and died
] as const;
export type Reason = (typeof REASONS)[number];

/** One queue's change of path. Times are CLOCK_MONOTONIC nanoseconds, as `process.hrtime()` counts them. */
export interface Failover {
  readonly sequence: number;
  readonly port: number;
  readonly queue: number;
  readonly from: PathName;
  readonly to: PathName;
  readonly reason: Reason;
  /** The coordinator learnt of it. */
  readonly detectedNanos: number;
  /** It ordered the switch. */
  readonly orderedNanos: number;
  /** The worker came to the order, */
  readonly beganNanos: number;
  /** and had carried it out. */
  readonly endedNanos: number;
  /** Packets the worker still took from the old path's receive ring. */
  readonly drained: number;
  /** Packets it took back from the old path's transmit ring and sent on the new one. */
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

  /** Coordinator only. */
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

  /** Records from `sequence` on, oldest first; those already overwritten are left out. */
  since(sequence: number): Failover[] {
    const { head } = this;
    const records: Failover[] = [];
    for (let i = Math.max(sequence, head - JOURNAL_RECORDS, 0); i < head; i++) records.push(this.#read(i));
    // What was overwritten meanwhile carries another number; one slot behind that may be half written.
    const oldest = this.head - JOURNAL_RECORDS;
    return this.head === head ? records : records.filter((record) => record.sequence > oldest);
  }

  /** The path a queue's last record ends on; NONE without a record that is still there. */
  pathOf(port: number, queue: number): PathId {
    const last = this.since(0).findLast((record) => record.port === port && record.queue === queue);
    return last === undefined ? Path.NONE : (PATH_NAMES.indexOf(last.to) as PathId);
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
