/** Between the application's thread and that of a replay: messages, and a few words that both see at once. */
import type { Completion } from '../coordinator/completion.ts';
import type { PlainError } from '../errors.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import type { ReplaySettings } from '../replay-settings.ts';

/** `workerData` of the thread. */
export interface ReplayData {
  readonly settings: ReplaySettings;
  /** How many ports there are: the file that is written has an interface for each. */
  readonly ports: number;
  readonly words: SharedArrayBuffer;
  /** The thread completes it once it has loaded. */
  readonly loaded: Completion;
}

/** Starts the replay, into the first port of this memory. */
export interface PlayMessage {
  readonly shared: SharedMemory;
}

/** What was played of a file. */
export interface Played {
  /** Packets that came in on the port. */
  readonly played: number;
  readonly playedBytes: number;
  /** Of those, packets that the recording had cut: they came in shorter than they were. */
  readonly cut: number;
  /** Packets of the file that did not come in. */
  readonly skipped: {
    /** The recorded machine had sent them. */
    readonly outbound: number;
    /** Shorter than an Ethernet header. */
    readonly tooShort: number;
    /** Longer than a frame: see the option `frameSize`. */
    readonly tooLong: number;
  };
}

export type ReplayMessage =
  /** The files are open: they can be played, and written. */
  | { readonly kind: 'opened' }
  /** The last packet is in the port. With an error, it is the last because the file is damaged behind it. */
  | { readonly kind: 'through'; readonly played: Played; readonly error: PlainError | undefined }
  /** Everything that was collected is in the file. */
  | { readonly kind: 'flushed' }
  /** A file cannot be opened or written: the thread ends. */
  | { readonly kind: 'failed'; readonly error: PlainError };

const STOP = 0;
const FLUSH = 1;
const READING = 4;
const COLLECTED = 1; // of doubles

/** The words. One writer each. */
export class ReplayWords {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;

  constructor(buffer = new SharedArrayBuffer(24)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#doubles = new Float64Array(buffer);
  }

  get stopped(): boolean {
    return Atomics.load(this.#words, STOP) === 1;
  }

  /** The thread ends, at the latest after its present wait. */
  stop(): void {
    Atomics.store(this.#words, STOP, 1);
    Atomics.notify(this.#words, STOP);
  }

  /** Thread of the replay: waits so long, or until it is stopped. */
  wait(millis: number): void {
    Atomics.wait(this.#words, STOP, 0, millis);
  }

  /** Whether the application reads what the port delivers: then packets wait for it. */
  get reading(): boolean {
    return Atomics.load(this.#words, READING) === 1;
  }

  set reading(reads: boolean) {
    Atomics.store(this.#words, READING, reads ? 1 : 0);
  }

  /** Has the thread answer with 'flushed'. */
  orderFlush(): void {
    Atomics.store(this.#words, FLUSH, 1);
  }

  /** Thread of the replay: whether a flush was ordered since the last call. */
  takeFlush(): boolean {
    return Atomics.load(this.#words, FLUSH) === 1 && Atomics.exchange(this.#words, FLUSH, 0) === 1;
  }

  /** Packets that were collected from the ports. An aligned store of 8 bytes is one access: a reader sees no half. */
  get collected(): number {
    return this.#doubles[COLLECTED]!;
  }

  set collected(packets: number) {
    this.#doubles[COLLECTED] = packets;
  }
}
