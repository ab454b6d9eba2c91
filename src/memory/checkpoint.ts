/**
 * The coordinator's state, written into the shared memory after every change. A thread that continues without that
 * coordinator reads which descriptors are open and what they are attached to.
 *
 * There are two copies. The writer fills the older one and then stores the head word, so a writer that dies at any point
 * leaves one whole copy. The coordinator writes; a successor, or a thread that closes everything, reads once the writer
 * has ended.
 */
import type { Memory } from './shared.ts';

/** Bytes before the text: its length. */
const HEAD = 4;

export class Checkpoint<T> {
  readonly #memory: Memory;

  constructor(memory: Memory) {
    this.#memory = memory;
  }

  /**
   * Replaces the last value. `value` must survive JSON.
   *
   * @param replacer as JSON.stringify takes it
   * @throws RangeError if it is too large
   */
  save(value: T, replacer?: (key: string, value: unknown) => unknown): void {
    const { words, bytes, layout } = this.#memory;
    const text = new TextEncoder().encode(JSON.stringify(value, replacer));
    if (text.length > layout.checkpointBytes - HEAD) {
      throw new RangeError(`a checkpoint of ${text.length} bytes: ${layout.checkpointBytes} are reserved`);
    }
    const next = (Atomics.load(words, layout.checkpointHead >> 2) + 1) | 0;
    const at = layout.checkpoint((next & 1) as 0 | 1);
    bytes.set(text, at + HEAD);
    words[at >> 2] = text.length;
    Atomics.store(words, layout.checkpointHead >> 2, next);
  }

  /** The value saved last; undefined if there is none. */
  load(): T | undefined {
    const { words, bytes, layout } = this.#memory;
    const head = Atomics.load(words, layout.checkpointHead >> 2);
    if (head === 0) return undefined;
    const at = layout.checkpoint((head & 1) as 0 | 1);
    const text = bytes.slice(at + HEAD, at + HEAD + words[at >> 2]!); // a copy: TextDecoder refuses shared memory
    return JSON.parse(new TextDecoder().decode(text)) as T;
  }
}
