/**
 * The ring of captured packets from one worker to the thread of the control socket. A packet is a record: a head of eight words
 * and its first bytes, in one or more slots one behind the other. One sender, one receiver.
 *
 * ```
 *   0  id of the capture           4  seconds of CLOCK_MONOTONIC
 *   1  bytes that were copied      5  nanoseconds
 *   2  bytes of the packet         6  packets of this interface that were missed since the record before
 *   3  interface, verdict << 8     7  slots of this record
 * ```
 *
 * A record that would not fit before the end of the ring begins at its start, and one without an interface fills the gap.
 */
import { CAPTURE_SLOT } from '../memory/geometry.ts';
import { Consumer, Producer, placeAt, type RingPlace } from '../memory/ring.ts';
import type { Memory } from '../memory/shared.ts';

/** Bytes of a record's head. */
export const RECORD_HEAD = 32;
const SLOT_WORDS = CAPTURE_SLOT / 4;
/** The interface of a record that only fills a gap. */
const FILLER = 0xff;
/** Of a packet on which nothing is decided: one that is sent. */
export const NO_VERDICT = 0xff;

const placeOf = ({ layout }: Memory, capture: number, queue: number): RingPlace =>
  placeAt(layout.captureRing(capture, queue), layout.captureEntries, SLOT_WORDS);

/** The sending end. Belongs to the worker thread. */
export class RecordSender {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #ring: Producer;
  /** Slots that are written and not published. */
  #staged = 0;

  constructor(memory: Memory, capture: number, queue: number) {
    this.#words = memory.words;
    this.#bytes = memory.bytes;
    this.#ring = new Producer(memory.words, placeOf(memory, capture, queue));
  }

  /**
   * Writes a record, which is not published before {@link commit}.
   *
   * @param at offset of the packet in the same memory
   * @param copied how many of its `length` bytes are copied
   * @returns index of the record's first word; -1 if there is no room
   */
  push(id: number, at: number, copied: number, length: number, number: number, missed: number): number {
    const ring = this.#ring;
    const slots = Math.ceil((RECORD_HEAD + copied) / CAPTURE_SLOT);
    const before = ring.entries - (((ring.cursor + this.#staged) | 0) & ring.mask);
    const gap = before < slots ? before : 0;
    const wanted = this.#staged + gap + slots;
    if (ring.reserve(wanted) < wanted) return -1;
    const words = this.#words;
    if (gap > 0) {
      const filler = ring.slot(this.#staged);
      words[filler + 3] = FILLER;
      words[filler + 7] = gap;
      this.#staged += gap;
    }
    const record = ring.slot(this.#staged);
    words[record] = id;
    words[record + 1] = copied;
    words[record + 2] = length;
    words[record + 3] = number | (NO_VERDICT << 8);
    words[record + 6] = missed;
    words[record + 7] = slots;
    const to = (record << 2) + RECORD_HEAD;
    this.#bytes.copyWithin(to, at, at + copied);
    this.#staged += slots;
    return record;
  }

  /** When the packet of a record was seen. */
  stamp(record: number, seconds: number, nanos: number): void {
    this.#words[record + 4] = seconds;
    this.#words[record + 5] = nanos;
  }

  /** What was decided on the packet of a record that is not published yet. */
  decide(record: number, verdict: number): void {
    this.#words[record + 3] = (this.#words[record + 3]! & 0xff) | (verdict << 8);
  }

  /** Publishes the records. */
  commit(): void {
    if (this.#staged > 0) this.#ring.commit(this.#staged);
    this.#staged = 0;
  }
}

/** The receiving end. Belongs to the control thread. */
export class RecordReceiver {
  /** Of the record that {@link next} has found. */
  seconds = 0;
  nanos = 0;
  interface = 0;
  verdict = 0;
  length = 0;
  missed = 0;
  /** How often the ring held no record where one must be, and all that was in it was left out. */
  damaged = 0;
  /** Offset of its bytes in the shared memory, and how many they are. */
  at = 0;
  copied = 0;
  readonly #words: Int32Array;
  readonly #ring: Consumer;
  readonly #id: number;
  #slots = 0;

  /** @param id of the capture: older records in the ring are left out */
  constructor(memory: Memory, capture: number, queue: number, id: number) {
    this.#words = memory.words;
    this.#ring = new Consumer(memory.words, placeOf(memory, capture, queue));
    this.#id = id;
  }

  /** Whether there is a record; it stays until {@link release}. */
  next(): boolean {
    if (this.#slots > 0) return true;
    const words = this.#words;
    const ring = this.#ring;
    while (ring.peek(1) > 0) {
      const record = ring.slot(0);
      const slots = words[record + 7]!;
      // Whatever wrote it: this thread neither stays here for ever nor reads what no worker has written.
      if (slots < 1 || ring.peek(slots) < slots) {
        this.damaged++;
        ring.release(ring.pending());
        return false;
      }
      const number = words[record + 3]! & 0xff;
      if (number === FILLER || words[record] !== this.#id) {
        ring.release(slots);
        continue;
      }
      this.copied = words[record + 1]!;
      this.length = words[record + 2]!;
      this.interface = number;
      this.verdict = (words[record + 3]! >>> 8) & 0xff;
      this.seconds = words[record + 4]!;
      this.nanos = words[record + 5]!;
      this.missed = words[record + 6]!;
      this.at = (record << 2) + RECORD_HEAD;
      this.#slots = slots;
      return true;
    }
    return false;
  }

  release(): void {
    this.#ring.release(this.#slots);
    this.#slots = 0;
  }
}
