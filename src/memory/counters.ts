/**
 * Counters: one Float64 each, written by one thread, read by any.
 *
 * Exact to 2^53, which no counter reaches; an aligned 8-byte store is one access on both
 * architectures, so a reader sees some recent value, never half of one. Added to once per burst.
 */
import {
  KERNEL_COUNTERS,
  PATH_COUNTERS,
  type PathId,
  PathSlot,
  QUEUE_COUNTERS,
  QueueBlock,
} from './layout.ts';
import type { Memory } from './shared.ts';

/** The Float64 index of each counter of a group, by name. */
export type CounterIndex<Name extends string> = Readonly<Record<Name, number>>;

function indices<Name extends string>(names: readonly Name[], byteOffset: number): CounterIndex<Name> {
  const entries = names.map((name, i) => [name, byteOffset / 8 + i] as const);
  return Object.fromEntries(entries) as Record<Name, number>;
}

export const queueCounters = (memory: Memory, port: number, queue: number) =>
  indices(QUEUE_COUNTERS, memory.layout.queue(port, queue) + QueueBlock.counters);

export const pathCounters = (memory: Memory, port: number, queue: number, path: PathId) =>
  indices(PATH_COUNTERS, memory.layout.slot(port, queue, path) + PathSlot.counters);

export const kernelCounters = (memory: Memory, port: number, queue: number, path: PathId) =>
  indices(KERNEL_COUNTERS, memory.layout.slot(port, queue, path) + PathSlot.kernel);

/** The current values of a group, by name. Any thread. */
export function readCounters<Name extends string>(
  memory: Memory,
  index: CounterIndex<Name>,
): Record<Name, number> {
  const values = {} as Record<Name, number>;
  for (const name in index) values[name] = memory.doubles[index[name]]!;
  return values;
}
