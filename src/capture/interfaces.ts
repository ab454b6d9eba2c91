/** The interfaces of a capture, one for each path and direction, and their counters. Pure; any thread. */
import { PATH_NAMES, type PathId, SLOT_PATHS } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';

/** In the order of their numbers. */
export const INTERFACES = SLOT_PATHS.flatMap((path) =>
  (['rx', 'tx'] as const).map((way) => ({ path, way, name: `${PATH_NAMES[path]} ${way}` })),
);

/** The number of an interface. `sent`: 0 for received packets, 1 for sent ones. */
export const interfaceOf = (path: PathId, sent: 0 | 1): number => 2 * (path - 1) + sent;

/** What is counted for each interface: packets that were looked at, and of those that the filter took those without room in the ring. */
export const Counter = { SEEN: 0, MISSED: 1 } as const;
const COUNTERS = Object.keys(Counter).length;

/** Float64s of a capture on one queue. */
export const CAPTURE_COUNTERS = COUNTERS * INTERFACES.length;

/** Index of an interface's first counter. */
export const counterAt = ({ layout }: Memory, capture: number, queue: number, number: number): number =>
  layout.captureCounters(capture, queue) / 8 + COUNTERS * number;

export interface InterfaceCount {
  readonly seen: number;
  readonly missed: number;
}

/** The counters of each interface, over all queues. They never begin again, so a reader subtracts what was there before. */
export function countsOf(memory: Memory, capture: number): InterfaceCount[] {
  const { queues } = memory.layout.geometry;
  const sum = (number: number, counter: number): number => {
    let all = 0;
    for (let queue = 0; queue < queues; queue++)
      all += memory.doubles[counterAt(memory, capture, queue, number) + counter]!;
    return all;
  };
  return INTERFACES.map((_, number) => ({
    seen: sum(number, Counter.SEEN),
    missed: sum(number, Counter.MISSED),
  }));
}
