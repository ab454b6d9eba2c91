/**
 * One thread's view of the shared memory: the typed arrays and the layout.
 *
 * Every thread makes its own from the same {@link SharedMemory}. One kind of array per use: `words` for Atomics and ring
 * words, `bytes` for packets, `view` for big-endian fields, `doubles` for counters and times. The memory never grows: a
 * length-tracking view is ten times as slow.
 */
import { ControlPage, PathSlot, QueueBlock, WorkerBlock } from './blocks.ts';
import { type Geometry, type Layout, layOut, type SharedMemory, type WasmMemory } from './geometry.ts';
import { MAGIC, type QueueAddress } from './layout.ts';

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
  readonly control: ControlPage;
  /** One per queue number. */
  readonly workers: readonly WorkerBlock[];

  private constructor(shared: SharedMemory) {
    this.shared = shared;
    this.layout = layOut(shared.geometry);
    this.buffer = shared.memory.buffer as SharedArrayBuffer;
    this.words = new Int32Array(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
    this.doubles = new Float64Array(this.buffer);
    this.view = new DataView(this.buffer);
    this.control = new ControlPage(this, this.layout.control);
    const { queues } = shared.geometry;
    this.workers = Array.from(
      { length: queues },
      (_, queue) => new WorkerBlock(this, this.layout.worker(queue)),
    );
  }

  /** @throws RangeError if the machine has no room for it (frames are only touched when used). */
  static create(geometry: Geometry): Memory {
    const pages = Math.ceil(layOut(geometry).bytes / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const created = new Memory({ memory, geometry });
    created.control.magic = MAGIC;
    created.control.bytes = created.layout.bytes;
    return created;
  }

  /** @throws Error if the memory was laid out by another version. */
  static attach(shared: SharedMemory): Memory {
    const attached = new Memory(shared);
    const { control, layout } = attached;
    if (control.magic !== MAGIC || control.bytes !== layout.bytes) {
      throw new Error('this shared memory was laid out by another version of Twinpath');
    }
    return attached;
  }

  queue(port: number, queue: number): QueueBlock {
    return new QueueBlock(this, this.layout.queue(port, queue));
  }

  slot({ port, queue, path }: QueueAddress): PathSlot {
    return new PathSlot(this, this.layout.slot(port, queue, path));
  }
}

/** CLOCK_MONOTONIC in nanoseconds: the same clock in every thread and process. Not for the hot path. */
export function nowNanos(): number {
  const [seconds, nanos] = process.hrtime();
  return seconds * 1e9 + nanos;
}
