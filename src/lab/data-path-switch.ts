/**
 * The words by which a host on the memory path tells its switch where to deliver, and hears that it does.
 *
 * An order is a path and a count. The switch (the traffic thread) answers with the count once every later
 * packet takes that path and none is under way on another: what a kernel would tell by its counters.
 */
import { Path } from '../memory/layout.ts';

const PATH = 0;
const ORDERED = 1;
const SETTLED = 2;

export type HostPath = typeof Path.SYNTHETIC | typeof Path.VF;

export class DataPathSwitch {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(3 * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    Atomics.compareExchange(this.#words, PATH, Path.NONE, Path.SYNTHETIC);
  }

  /** Where packets for the guest go now. */
  get path(): HostPath {
    return Atomics.load(this.#words, PATH) as HostPath;
  }

  /** The host's: moves the data path. Returns the count that `settled` will reach. */
  order(path: HostPath): number {
    Atomics.store(this.#words, PATH, path); // before the count: who sees the count sees the path
    return Atomics.add(this.#words, ORDERED, 1) + 1;
  }

  get settled(): number {
    return Atomics.load(this.#words, SETTLED);
  }

  /** The switch's: the order not yet answered, 0 when there is none. */
  get open(): number {
    const ordered = Atomics.load(this.#words, ORDERED);
    return ordered === this.settled ? 0 : ordered;
  }

  settle(order: number): void {
    Atomics.store(this.#words, SETTLED, order);
  }
}
