/**
 * A table of flows that expire, of a fixed number of entries. It gives each flow a number, the position of its entry, which stays
 * the flow's until it is removed. The caller keeps what it knows of a flow in typed arrays of its own, at that number.
 *
 * A flow may be in one of eight entries, which its hash chooses: a look-up reads at most eight tags, and a flow that is removed
 * leaves no gap to skip. A flow whose eight entries have other living flows is refused, or replaces that one of those which `mayEvict`
 * allows that would expire first. That begins to happen when about half of the entries are taken, so give the table twice the flows that you expect.
 *
 * An entry whose time is over is not found any more. {@link FlowTable.sweep} frees such entries, a few at each call.
 *
 * One thread adds, removes and sweeps. Others may look flows up in the same memory, and prolong them: what they find may be gone
 * when they use it. If the thread that writes dies at any point, the table is as before or after the step that it was in.
 *
 * The time is that of the clock, as of its last `update`. Nothing allocates but the constructor.
 */
import { randomInt } from 'node:crypto';
import type { Clock } from '../handler/clock.ts';
import { type FlowKey, KEY_WORDS } from './flow-key.ts';
import { placeIn, type StateMemory, wholeFrom } from './state-memory.ts';

/** Entries among which a flow's hash chooses. */
const WAYS = 8;
const WORDS = KEY_WORDS;
const MAX_ENTRIES = 1 << 24;
const NANOS_PER_MILLI = 1e6;

/** Of the header, in words: the seed, and the position of the sweep. */
const HEADER_WORDS = 16;
const SEED = 0;
const HAND = 1;
const HEADER_BYTES = HEADER_WORDS * 4;
/** A tag, a key, and a deadline. */
const ENTRY_BYTES = 4 + WORDS * 4 + 8;

export interface FlowTableOptions {
  /** `context.clock`. */
  readonly clock: Clock;
  /** A multiple of 8, 8 to 16,777,216; each takes 52 bytes. */
  readonly entries: number;
  /** At least `FlowTable.bytes(entries)`. Default: memory of its own. */
  readonly memory?: StateMemory;
  /**
   * Whether a new flow, all of whose entries have living flows, may replace the one at this entry. Of those that it may, it replaces the
   * one that would expire first. If there is none, and by default, the new flow is refused.
   */
  readonly mayEvict?: ((entry: number) => boolean) | undefined;
  /** Called with each entry before it is freed, for whichever reason. */
  readonly removed?: (entry: number) => void;
}

export class FlowTable {
  readonly entries: number;
  /** Flows that were refused, by this object. */
  refused = 0;
  /** Living flows that others have replaced, by this object. */
  evicted = 0;
  /** Whether the last {@link add} made the entry: what the caller keeps of it is another flow's. */
  isNew = false;
  readonly #header: Int32Array;
  /** Of each entry: 0 free, else its flow's hash. */
  readonly #tags: Int32Array;
  readonly #keys: Int32Array;
  readonly #deadlines: Float64Array;
  readonly #sets: number;
  readonly #seed: number;
  readonly #mayEvict: ((entry: number) => boolean) | undefined;
  readonly #time: Float64Array;
  readonly #removed: ((entry: number) => void) | undefined;
  #size = 0;

  /** Bytes of memory for so many entries. */
  static bytes(entries: number): number {
    return HEADER_BYTES + entries * ENTRY_BYTES;
  }

  /** @throws RangeError for entries or memory out of range */
  constructor({ clock, entries, memory, mayEvict, removed }: FlowTableOptions) {
    if (entries % WAYS !== 0) throw new RangeError(`entries is ${entries}: it must be a multiple of ${WAYS}`);
    this.entries = wholeFrom('entries', entries, WAYS, MAX_ENTRIES);
    const bytes = FlowTable.bytes(entries);
    const { buffer, at } = memory
      ? { buffer: memory.buffer, at: placeIn(memory, bytes) }
      : { buffer: new ArrayBuffer(bytes), at: 0 };
    this.#header = new Int32Array(buffer, at, HEADER_WORDS);
    this.#deadlines = new Float64Array(buffer, at + HEADER_BYTES, entries);
    this.#tags = new Int32Array(buffer, at + HEADER_BYTES + entries * 8, entries);
    this.#keys = new Int32Array(buffer, at + HEADER_BYTES + entries * 12, entries * WORDS);
    this.#sets = entries / WAYS;
    this.#mayEvict = mayEvict;
    this.#removed = removed;
    this.#time = clock.time;
    // All objects over the same memory have the seed of the first. A sender that does not know it cannot choose the entries.
    Atomics.compareExchange(this.#header, SEED, 0, randomInt(1, 2 ** 31));
    this.#seed = Atomics.load(this.#header, SEED);
    for (const tag of this.#tags) if (tag !== 0) this.#size++;
  }

  /** Entries that are taken, also by flows whose time is over and that no sweep has come by. For the thread that writes. */
  get size(): number {
    return this.#size;
  }

  /** The flow's entry; -1 if the table does not have it, or its time is over. */
  find(key: FlowKey): number {
    const tag = key.hash(this.#seed) || 1;
    const first = this.#firstOf(tag);
    const tags = this.#tags;
    for (let entry = first; entry < first + WAYS; entry++) {
      if (tags[entry] === tag && this.#holds(entry, key))
        return this.#deadlines[entry]! > this.#time[0]! ? entry : -1;
    }
    return -1;
  }

  /**
   * The flow's entry, which is made if the table does not have it ({@link isNew}). It lives for `millis` from now on.
   *
   * @param millis a whole number below 2^31
   * @returns -1 if there is no entry for it
   */
  add(key: FlowKey, millis: number): number {
    const tag = key.hash(this.#seed) || 1;
    const first = this.#firstOf(tag);
    const tags = this.#tags;
    const deadlines = this.#deadlines;
    const now = this.#time[0]!;
    let free = -1;
    let soonest = first;
    this.isNew = false;
    for (let entry = first; entry < first + WAYS; entry++) {
      if (tags[entry] === 0) {
        if (free < 0) free = entry;
      } else if (tags[entry] === tag && this.#holds(entry, key)) {
        if (deadlines[entry]! > now) {
          deadlines[entry] = now + millis * NANOS_PER_MILLI;
          return entry;
        }
        this.remove(entry); // the flow was forgotten, and this is another of the same name
        if (free < 0) free = entry;
      } else if (tags[soonest] === 0 || deadlines[entry]! < deadlines[soonest]!) soonest = entry;
    }
    if (free < 0) {
      if (deadlines[soonest]! > now) {
        soonest = this.#evictable(first);
        if (soonest < 0) {
          this.refused++;
          return -1;
        }
        this.evicted++;
      }
      this.remove(soonest);
      free = soonest;
    }
    deadlines[free] = now + millis * NANOS_PER_MILLI;
    this.#assign(free, tag, key);
    return free;
  }

  /** Has an entry live for `millis` from now on, a whole number below 2^31. Any thread that may look it up. */
  keep(entry: number, millis: number): void {
    this.#deadlines[entry] = this.#time[0]! + millis * NANOS_PER_MILLI;
  }

  /** Whether the entry is a flow's whose time is not over. Any thread. */
  isAlive(entry: number): boolean {
    return this.#tags[entry] !== 0 && this.#deadlines[entry]! > this.#time[0]!;
  }

  /** Frees an entry; a free one stays so. */
  remove(entry: number): void {
    if (this.#tags[entry] === 0) return;
    this.#removed?.(entry);
    // First, so that no other thread takes half of a key that is written next for the whole.
    Atomics.store(this.#tags, entry, 0);
    this.#size--;
  }

  /**
   * Frees the entries among the next `count` whose time is over. At `count` entries a burst the table is gone through once in
   * entries / count bursts. Also call it in `tick`, for the time without packets.
   *
   * @returns how many were freed
   */
  sweep(count: number): number {
    const tags = this.#tags;
    const deadlines = this.#deadlines;
    const now = this.#time[0]!;
    let entry = this.#header[HAND]! % this.entries;
    let freed = 0;
    for (let i = Math.min(count, this.entries); i > 0; i--) {
      if (tags[entry] !== 0 && deadlines[entry]! <= now) {
        this.remove(entry);
        freed++;
      }
      if (++entry === this.entries) entry = 0;
    }
    this.#header[HAND] = entry;
    return freed;
  }

  #firstOf(tag: number): number {
    return ((tag >>> 0) % this.#sets) * WAYS;
  }

  /** Of eight entries with living flows: the one that expires first of those that may go; -1 if there is none. */
  #evictable(first: number): number {
    const mayEvict = this.#mayEvict;
    const deadlines = this.#deadlines;
    let soonest = -1;
    if (mayEvict === undefined) return soonest;
    for (let entry = first; entry < first + WAYS; entry++) {
      if ((soonest < 0 || deadlines[entry]! < deadlines[soonest]!) && mayEvict(entry)) soonest = entry;
    }
    return soonest;
  }

  #holds(entry: number, key: FlowKey): boolean {
    const keys = this.#keys;
    const { words, length } = key;
    const at = entry * WORDS;
    // The kind is one of the words, so that no key is the beginning of another.
    for (let k = 0; k < length; k++) if (keys[at + k] !== words[k]) return false;
    return true;
  }

  #assign(entry: number, tag: number, { words, length }: FlowKey): void {
    const keys = this.#keys;
    const at = entry * WORDS;
    for (let k = 0; k < length; k++) keys[at + k] = words[k]!;
    // Last: until then the entry is free, also if this thread ends here.
    Atomics.store(this.#tags, entry, tag);
    this.#size++;
    this.isNew = true;
  }
}
