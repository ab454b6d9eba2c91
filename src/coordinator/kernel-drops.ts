/**
 * The kernel's drop counters of one path, made monotonic: a device counts from 0 each time it is opened, the shared counters
 * never decrease. Coordinator thread only: the one writer of these counters.
 */
import { KERNEL_COUNTERS, kernelCounters } from '../memory/counters.ts';
import type { PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import type { PathDevice } from '../paths/device.ts';

export class KernelDrops {
  readonly #doubles: Float64Array;
  /** Index of each counter, by queue. */
  readonly #index: readonly ReturnType<typeof kernelCounters>[];
  /** Sums of the devices before this one, by queue and counter. */
  #before: readonly (readonly number[])[];

  constructor(memory: Memory, port: number, path: PathId) {
    const { queues } = memory.layout.geometry;
    this.#doubles = memory.doubles;
    this.#index = Array.from({ length: queues }, (_, queue) => kernelCounters(memory, port, queue, path));
    this.#before = this.#values();
  }

  /** See {@link resume}. */
  get holdings(): readonly (readonly number[])[] {
    return this.#before;
  }

  /** Takes over a device that another coordinator opened. @param before its {@link holdings} */
  resume(before: readonly (readonly number[])[]): void {
    this.#before = before;
  }

  /** Adds what the device has counted since it was opened. */
  read(device: PathDevice): void {
    this.#index.forEach((index, queue) => {
      const now = device.dropped(queue);
      KERNEL_COUNTERS.forEach((name, i) => {
        // A device that is disappearing returns 0: the counter keeps its value.
        const sum = this.#before[queue]![i]! + now[name];
        this.#doubles[index[name]] = Math.max(this.#doubles[index[name]]!, sum);
      });
    });
  }

  /** The device is about to be closed: the next one starts from here. */
  settle(device: PathDevice): void {
    this.read(device);
    this.#before = this.#values();
  }

  #values(): number[][] {
    return this.#index.map((index) => KERNEL_COUNTERS.map((name) => this.#doubles[index[name]]!));
  }
}
