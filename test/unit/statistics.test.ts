/** What was counted between two readings of a port's statistics. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { kernelCounters, pathCounters, queueCounters } from '../../src/memory/counters.ts';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { type PortStatistics, portStatistics, statisticsSince } from '../../src/statistics.ts';

const QUEUES = 2;
const memory = Memory.create({
  ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
});
/** The places of all counters of the port. */
const places = Array.from({ length: QUEUES }, (_, queue) => [
  ...Object.values(queueCounters(memory, 0, queue)),
  ...[Path.SYNTHETIC, Path.VF, Path.HOST].flatMap((path) => [
    ...Object.values(pathCounters(memory, 0, queue, path)),
    ...Object.values(kernelCounters(memory, 0, queue, path)),
  ]),
]).flat();

/** Counts some more, and reads. */
function counted(steps: readonly (readonly [place: number, by: number])[]): PortStatistics {
  for (const [place, by] of steps) memory.doubles[places[place % places.length]!]! += by;
  return portStatistics(memory, 0);
}

const steps = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 1000 })), { maxLength: 30 });

it('is what a port that starts then would have counted', () => {
  fc.assert(
    fc.property(steps, steps, (first, second) => {
      memory.doubles.fill(0);
      const before = counted(first);
      const now = counted(second);
      memory.doubles.fill(0);
      expect(statisticsSince(now, before)).toEqual(counted(second));
    }),
  );
});

it('adds up over several readings, and is nothing between one and itself', () => {
  fc.assert(
    fc.property(steps, steps, (first, second) => {
      memory.doubles.fill(0);
      const start = counted([]);
      const middle = counted(first);
      const end = counted(second);
      expect(statisticsSince(statisticsSince(end, start), statisticsSince(middle, start))).toEqual(
        statisticsSince(end, middle),
      );
      expect(statisticsSince(end, end)).toEqual(start);
    }),
  );
});

it('keeps the numbers of the queues', () => {
  const now = counted([]);
  expect(statisticsSince(now, now).queues.map(({ queue, owner }) => [queue, owner])).toEqual([
    [0, 'none'],
    [1, 'none'],
  ]);
});
