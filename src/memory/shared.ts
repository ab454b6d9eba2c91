/**
 * One thread's view of the shared memory: the typed arrays, made once, and the layout beside them.
 *
 * Every thread makes its own from the same {@link SharedMemory}. One kind of array per use: `words`
 * for Atomics and ring words, `bytes` for packets, `view` for big-endian fields, `doubles` for
 * counters and times. The memory never grows: a length-tracking view costs ten times as much.
 */
import {
  Control,
  type Geometry,
  type Layout,
  layOut,
  MAGIC,
  type SharedMemory,
  type WasmMemory,
} from './layout.ts';

declare const WebAssembly: {
  Memory: new (size: { initial: number; maximum: number; shared: true }) => WasmMemory;
};

export class Memory {
  readonly shared: SharedMemory;
  readonly layout: Layout;
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly doubles: Float64Array;
  readonly view: DataView;

  private constructor(shared: SharedMemory) {
    this.shared = shared;
    this.layout = layOut(shared.geometry);
    this.buffer = shared.memory.buffer as SharedArrayBuffer;
    this.words = new Int32Array(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
    this.doubles = new Float64Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /** @throws RangeError if the machine has no room for it (frames are only touched when used). */
  static create(geometry: Geometry): Memory {
    const pages = Math.ceil(layOut(geometry).bytes / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const created = new Memory({ memory, geometry });
    created.words[Control.magic >> 2] = MAGIC;
    created.words[Control.bytes >> 2] = created.layout.bytes;
    return created;
  }

  /** @throws Error if the memory was laid out by another version. */
  static attach(shared: SharedMemory): Memory {
    const attached = new Memory(shared);
    const { words, layout } = attached;
    if (words[Control.magic >> 2] !== MAGIC || words[Control.bytes >> 2] !== layout.bytes) {
      throw new Error('this shared memory was laid out by another version of Twinpath');
    }
    return attached;
  }
}

/** CLOCK_MONOTONIC in nanoseconds: the same clock in every thread and process. Not for the hot path. */
export function nowNanos(): number {
  const [seconds, nanos] = process.hrtime();
  return seconds * 1e9 + nanos;
}
