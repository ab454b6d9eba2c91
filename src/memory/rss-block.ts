/**
 * The RSS block of a port: the key of the hash, the types of packets that it covers, and the table of queues. The supervisor
 * writes it; each worker copies it between two bursts, so that a burst is never spread by parts of two.
 *
 * A sequence lock: the generation is odd while the block is written. A reader never waits: if the block changes meanwhile,
 * it goes on with the copy that it has, and tries again in its next round. All words are read and written with `Atomics`,
 * which keeps the order on every processor.
 */
import { RETA_ENTRIES } from './geometry.ts';
import type { Memory } from './shared.ts';

/** Bytes of the key that the hash uses: see rss/key.ts. */
const KEY_BYTES = 40;
/** Words of the block. */
const GENERATION = 0;
const HASH_TYPES = 1;
const ORDERED = 2;
const KEY = 4;
const KEY_WORDS = KEY_BYTES / 4;
const TABLE_WORDS = RETA_ENTRIES / 4;

/** What spreads flows. */
export interface RssValues {
  /** 40 bytes or more, of which 40 are used. */
  readonly key: Uint8Array;
  /** Bits of `HashBit`. */
  readonly hashTypes: number;
  /** A queue number for each of 128 hashes. */
  readonly table: Uint8Array;
}

/**
 * Supervisor.
 *
 * @param ordered whether a worker first waits until other workers have taken what it has handed over to them: not if one of
 *   them may be dead
 */
export function writeRss(memory: Memory, port: number, values: RssValues, ordered: boolean): void {
  const { words, layout } = memory;
  const block = layout.rss(port) >> 2;
  const store = (at: number, bytes: Uint8Array): void => {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let i = 0; i < bytes.length >> 2; i++) Atomics.store(words, at + i, view.getInt32(4 * i, true));
  };
  const generation = Atomics.load(words, block + GENERATION);
  Atomics.store(words, block + GENERATION, generation | 1);
  Atomics.store(words, block + HASH_TYPES, values.hashTypes);
  Atomics.store(words, block + ORDERED, ordered ? 1 : 0);
  store(block + KEY, values.key.subarray(0, KEY_BYTES));
  store(layout.redirection(port) >> 2, values.table.subarray(0, RETA_ENTRIES));
  Atomics.store(words, block + GENERATION, ((generation | 1) + 1) | 0);
}

/** A reader's copy of the block of one port. */
export class RssReader {
  readonly #words: Int32Array;
  readonly #block: number;
  readonly #tableAt: number;
  #generation = -1;
  #found = -1;
  readonly #fresh = new Int32Array(2 + KEY_WORDS + TABLE_WORDS);
  readonly #copy = new Int32Array(2 + KEY_WORDS + TABLE_WORDS);
  /** The queue of each entry. */
  readonly table = new Uint8Array(this.#copy.buffer, 4 * (2 + KEY_WORDS), RETA_ENTRIES);
  readonly key = new Uint8Array(this.#copy.buffer, 8, KEY_BYTES);

  constructor({ words, layout }: Memory, port: number) {
    this.#words = words;
    this.#block = layout.rss(port) >> 2;
    this.#tableAt = layout.redirection(port) >> 2;
  }

  get hashTypes(): number {
    return this.#copy[0]!;
  }

  /** Whether the change that {@link take} has taken is to keep flows in order. */
  get ordered(): boolean {
    return this.#copy[1] !== 0;
  }

  /** Whether the block may have changed since {@link take}: one load. */
  get isStale(): boolean {
    return Atomics.load(this.#words, this.#block) !== this.#generation;
  }

  /** Copies the block, unless it is being written: then the next call may. @returns whether the copy is a new one */
  take(): boolean {
    if (!this.#read()) return false;
    this.#copy.set(this.#fresh);
    this.#generation = this.#found;
    return true;
  }

  #read(): boolean {
    const words = this.#words;
    const fresh = this.#fresh;
    const generation = Atomics.load(words, this.#block + GENERATION);
    if ((generation & 1) !== 0) return false;
    fresh[0] = Atomics.load(words, this.#block + HASH_TYPES);
    fresh[1] = Atomics.load(words, this.#block + ORDERED);
    for (let i = 0; i < KEY_WORDS; i++) fresh[2 + i] = Atomics.load(words, this.#block + KEY + i);
    for (let i = 0; i < TABLE_WORDS; i++) {
      fresh[2 + KEY_WORDS + i] = Atomics.load(words, this.#tableAt + i);
    }
    this.#found = generation;
    return Atomics.load(words, this.#block + GENERATION) === generation;
  }
}
