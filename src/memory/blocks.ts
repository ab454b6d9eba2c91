/**
 * The three kinds of blocks, and the control page, as small objects over the shared words: each field is a property, for
 * setting up; the hot path asks once for the index of a word, with `at`, and uses the typed arrays. An object holds no
 * copy of anything, so any number of them may be made of one block. Any thread.
 */
import {
  CONTROL_WORDS,
  Driver,
  type DriverId,
  PATH_AREAS,
  PATH_WORDS,
  QUEUE_AREAS,
  QUEUE_TIMES,
  QUEUE_WORDS,
  type ReaderId,
  WORKER_AREAS,
  WORKER_WORDS,
} from './layout.ts';

/** Bytes from the beginning of a block, by field. */
type Fields = Readonly<Record<string, number>>;

/** What blocks lie in: a `Memory`. */
interface Arrays {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
}

interface Base<Field> {
  readonly words: Int32Array;
  /** Index of a field's first Int32 word. */
  at(field: Field): number;
  /** Byte offset of a field in the shared memory. */
  offset(field: Field): number;
}

type Block<Words extends Fields, Times extends Fields, Areas extends Fields> = Base<
  keyof Words | keyof Times | keyof Areas
> & { -readonly [Field in keyof Words | keyof Times]: number };

/** @param start byte offset of the block, as the layout tells */
type BlockClass<W extends Fields, T extends Fields, A extends Fields> = new (
  arrays: Arrays,
  start: number,
) => Block<W, T, A>;

function blockOf<W extends Fields, T extends Fields, A extends Fields>(
  words: W,
  times: T,
  areas: A,
): BlockClass<W, T, A> {
  const places: Fields = { ...words, ...times, ...areas };
  class Plain implements Base<string> {
    readonly words: Int32Array;
    readonly doubles: Float64Array;
    readonly start: number;
    constructor(arrays: Arrays, start: number) {
      this.words = arrays.words;
      this.doubles = arrays.doubles;
      this.start = start;
    }
    at(field: string): number {
      return (this.start + places[field]!) >> 2;
    }
    offset(field: string): number {
      return this.start + places[field]!;
    }
  }
  const property = (field: string, array: 'words' | 'doubles', shift: number): void => {
    Object.defineProperty(Plain.prototype, field, {
      get(this: Plain) {
        return this[array][(this.start + places[field]!) >> shift];
      },
      set(this: Plain, value: number) {
        this[array][(this.start + places[field]!) >> shift] = value;
      },
    });
  };
  for (const field in words) property(field, 'words', 2);
  for (const field in times) property(field, 'doubles', 3);
  return Plain as unknown as BlockClass<W, T, A>;
}

export class ControlPage extends blockOf(CONTROL_WORDS, {}, {}) {
  /** Whether the ports that use this memory close. */
  get stopping(): boolean {
    return Atomics.load(this.words, this.at('stop')) !== 0;
  }

  stopAll(): void {
    Atomics.store(this.words, this.at('stop'), 1);
  }
}

export class WorkerBlock extends blockOf(WORKER_WORDS, {}, WORKER_AREAS) {}

export class QueueBlock extends blockOf(QUEUE_WORDS, QUEUE_TIMES, QUEUE_AREAS) {
  /** Index of the word that has the errno of a path's failed kick. */
  kickErrnoAt(path: number): number {
    return this.at('kickErrno') + path;
  }
}

/** What a worker finds in a path slot that is opened. Zero if absent, but for the descriptor: -1. */
export interface Opening {
  readonly fd?: number;
  readonly reader: ReaderId;
  readonly inline?: number;
  readonly useUring?: number;
  readonly readsLong?: number;
  readonly segmentsFd?: number;
}

export class PathSlot extends blockOf(PATH_WORDS, {}, PATH_AREAS) {
  /**
   * Coordinator: opens a closed slot for the workers, with nothing staged and nothing taken back. What the driver needs
   * in its areas is written before. `maxPacketBytes` is not of the opening: it follows the device.
   */
  open(driver: Exclude<DriverId, typeof Driver.CLOSED>, opening: Opening): void {
    this.staged = this.giving = this.consumed = this.bounces = 0;
    this.recalled = this.recallCount = this.recallCompletes = this.recallBounced = 0;
    this.uringFd = 0;
    this.fd = opening.fd ?? -1;
    this.reader = opening.reader;
    this.inline = opening.inline ?? 0;
    this.useUring = opening.useUring ?? 0;
    this.readsLong = opening.readsLong ?? 0;
    this.segmentsFd = opening.segmentsFd ?? 0;
    Atomics.store(this.words, this.at('driver'), driver);
  }

  /** Coordinator: after the worker has left it. */
  close(): void {
    this.segmentsFd = 0;
    this.uringFd = 0;
    Atomics.store(this.words, this.at('driver'), Driver.CLOSED);
  }
}
