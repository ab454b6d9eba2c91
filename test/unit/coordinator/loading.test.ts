import { EventEmitter } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import type { Completion } from '../../../src/coordinator/completion.ts';
import { endLoading, startLoading } from '../../../src/coordinator/loading.ts';
import { Memory } from '../../../src/memory/shared.ts';

function setUp() {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const loading = (): number => memory.words[memory.control.at('loading')]!;
  return { memory, loading };
}

it('a thread that cannot be started does not load', () => {
  const { memory, loading } = setUp();
  const start = (): never => {
    expect(loading()).toBe(1);
    throw new Error('no thread');
  };
  expect(() => startLoading(memory, start)).toThrow('no thread');
  expect(loading()).toBe(0);
});

it('a thread loads until it says that it has, or exits: once', () => {
  const { memory, loading } = setUp();
  const loadeds: Completion[] = [];
  const threads = [1, 2].map(() =>
    startLoading(memory, (loaded) => {
      loadeds.push(loaded);
      return new EventEmitter() as Worker;
    }),
  );
  expect(loading()).toBe(2);
  endLoading(memory, loadeds[0]!);
  expect(loading()).toBe(1);
  for (const thread of threads) thread.emit('exit', 0);
  expect(loading()).toBe(0);
});
