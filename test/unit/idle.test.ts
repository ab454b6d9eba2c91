import { expect, test } from 'vitest';
import { Idle } from '../../src/datapath/idle.ts';
import type { Shim } from '../../src/kernel/shim.ts';
import { Control, WorkerBlock } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';

const DOORBELL = 77;
const FD = 5;
const POLLIN = 1;

/** A worker whose poll(2) answers as told, one answer a call and 0 after the last. */
function sleeper(answers: ((pollfds: Int32Array) => number)[] = []) {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const { words, layout } = memory;
  words[(layout.worker(0) + WorkerBlock.doorbellFd) >> 2] = DOORBELL;
  const naps: { millis: number; watched: number[]; asleep: number }[] = [];
  const reads: number[] = [];
  const shim = {
    poll(pollfds: Int32Array, count: number, millis: number): number {
      const watched = Array.from({ length: count }, (_, i) => pollfds[2 * i]!);
      naps.push({ millis, watched, asleep: words[idle.sleeping]! });
      return answers.shift()?.(pollfds) ?? 0;
    },
    read: (fd: number): number => reads.push(fd),
  } as unknown as Shim;
  const idle = new Idle(shim, memory, 0, 'interrupt');
  return { idle, words, naps, reads };
}

const FOREVER = Number.POSITIVE_INFINITY;

test('when nothing happens it sleeps several times before it looks again, visibly', () => {
  const { idle, words, naps, reads } = sleeper();
  idle.watch(FD);
  idle.sleep(false, FOREVER, () => true);
  expect(naps).toEqual(Array(4).fill({ millis: 50, watched: [FD, DOORBELL], asleep: 1 }));
  expect(words[idle.sleeping]).toBe(0);
  expect(reads).toEqual([]);
});

test('whatever wakes it ends the sleep, and a doorbell is heard once', () => {
  const { idle, naps, reads } = sleeper([
    () => 0,
    (pollfds) => {
      pollfds[3] = pollfds[3]! | (POLLIN << 16);
      return 1;
    },
  ]);
  idle.watch(FD);
  idle.sleep(false, FOREVER, () => true);
  expect(naps).toHaveLength(2);
  expect(reads).toEqual([DOORBELL]);
});

test('it never sleeps past the next tick, and looks often for what nobody tells of', () => {
  const { idle, naps } = sleeper();
  const sleep = (restless: boolean, most: number): number[] => {
    naps.length = 0;
    idle.watch(FD);
    idle.sleep(restless, most, () => true);
    return naps.map(({ millis }) => millis);
  };
  expect(sleep(false, 10)).toEqual([10]);
  expect(sleep(false, 120)).toEqual([50, 50]);
  expect(sleep(true, FOREVER)).toEqual([1]);
});

test('it does not sleep on what came in the last look, nor on a stop', () => {
  const busy = sleeper();
  busy.idle.sleep(false, FOREVER, () => false);
  expect(busy.naps).toEqual([]);
  const stopped = sleeper([
    () => {
      stopped.words[Control.stop >> 2] = 1;
      return 0;
    },
  ]);
  stopped.idle.sleep(false, FOREVER, () => true);
  expect(stopped.naps).toHaveLength(1);
});
