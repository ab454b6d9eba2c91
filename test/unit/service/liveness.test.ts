/** Which threads of a memory have moved, over words that a test writes in their place. */
import { expect, it } from 'vitest';
import { Memory } from '../../../src/memory/shared.ts';
import { Liveness } from '../../../src/service/liveness.ts';

const GEOMETRY = {
  ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048 },
  ...{ framesPerWorker: 64, ringEntries: 64 },
};

it('names each thread that has not moved since the last mark, and forgets nothing until the next', () => {
  const memory = Memory.create(GEOMETRY);
  const { words, control, workers } = memory;
  const liveness = new Liveness(memory.shared);
  const move = (at: number): void => void Atomics.add(words, at, 1);
  expect(liveness.hanging()).toEqual(['the coordinator', 'the worker of queue 0', 'the worker of queue 1']);
  move(workers[1]!.at('turns'));
  expect(liveness.hanging()).toEqual(['the coordinator', 'the worker of queue 0']);
  move(control.at('checks'));
  move(workers[0]!.at('turns'));
  expect(liveness.hanging()).toEqual([]);
  expect(liveness.hanging()).toEqual([]);
  liveness.mark();
  move(control.at('checks'));
  expect(liveness.hanging()).toEqual(['the worker of queue 0', 'the worker of queue 1']);
});
