import { expect, test } from 'vitest';
import type { IdleMode } from '../../../src/configuration.ts';
import { Idle, IdleCode } from '../../../src/datapath/idle.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { Memory } from '../../../src/memory/shared.ts';

const DOORBELL = 77;
const FD = 5;
const POLLIN = 1;

/** A worker whose poll(2) answers as told, one answer a call and 0 after the last. */
function sleeper(answers: ((pollfds: Int32Array) => number)[] = [], mode: IdleMode = 'interrupt') {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const { words, control, workers } = memory;
  const doorbell = workers[0]!.at('doorbell');
  memory.workers[0]!.doorbellFd = DOORBELL;
  const naps: { millis: number; watched: number[]; asleep: number }[] = [];
  const gathers: { micros: number; watched: number[]; asleep: number }[] = [];
  const reads: number[] = [];
  const clock = { millis: 0 };
  const shim = {
    poll(pollfds: Int32Array, count: number, millis: number): number {
      const watched = Array.from({ length: count }, (_, i) => pollfds[2 * i]!);
      naps.push({ millis, watched, asleep: words[idle.sleeping]! });
      return answers.shift()?.(pollfds) ?? 0;
    },
    pollMicros(pollfds: Int32Array, count: number, micros: number): number {
      const watched = Array.from({ length: count }, (_, i) => pollfds[2 * i]!);
      gathers.push({ micros, watched, asleep: words[idle.sleeping]! });
      return answers.shift()?.(pollfds) ?? 0;
    },
    millis: (): number => clock.millis,
    read: (fd: number): number => reads.push(fd),
  } as unknown as Shim;
  memory.workers[0]!.idleMode = IdleCode[mode];
  const idle = new Idle(shim, memory, 0);
  const setMode = (now: IdleMode): void => {
    memory.workers[0]!.idleMode = IdleCode[now];
  };
  return { idle, setMode, words, control, doorbell, naps, gathers, reads, clock };
}

const FOREVER = Number.POSITIVE_INFINITY;

test('an idle worker sleeps several times before it polls again, and its state shows the sleep', () => {
  const { idle, words, naps, reads } = sleeper();
  idle.watch(FD);
  idle.sleep(false, FOREVER, () => true);
  expect(naps).toEqual(Array(4).fill({ millis: 50, watched: [FD, DOORBELL], asleep: 1 }));
  expect(words[idle.sleeping]).toBe(0);
  expect(reads).toEqual([]);
});

test('each wake-up source ends the sleep of an idle worker, and a doorbell ends only one sleep', () => {
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

test('a doorbell without a write to its eventfd ends the sleep at the next wake-up', () => {
  for (const lost of [1, 2, 3]) {
    const { idle, words, doorbell, naps, reads } = sleeper(
      Array.from({ length: 4 }, (_, nap) => () => {
        // The other side counts the word up first; its write to the eventfd then fails.
        if (nap + 1 === lost) Atomics.add(words, doorbell, 1);
        return 0;
      }),
    );
    idle.watch(FD);
    idle.sleep(false, FOREVER, () => true);
    expect(naps).toHaveLength(lost);
    expect(reads).toEqual([]);
  }
});

test('an idle worker never sleeps past the next tick, and polls often for what has no wake-up', () => {
  const { idle, naps } = sleeper();
  const sleep = (hasUnpolledWork: boolean, most: number): number[] => {
    naps.length = 0;
    idle.watch(FD);
    idle.sleep(hasUnpolledWork, most, () => true);
    return naps.map(({ millis }) => millis);
  };
  expect(sleep(false, 10)).toEqual([10]);
  expect(sleep(false, 120)).toEqual([50, 50]);
  expect(sleep(true, FOREVER)).toEqual([1]);
});

test('an idle worker does not sleep if the last poll found packets, nor after a stop', () => {
  const busy = sleeper();
  busy.idle.sleep(false, FOREVER, () => false);
  expect(busy.naps).toEqual([]);
  const stopped = sleeper([
    () => {
      stopped.control.stop = 1;
      return 0;
    },
  ]);
  stopped.idle.sleep(false, FOREVER, () => true);
  expect(stopped.naps).toHaveLength(1);
});

/** What a worker does that has handled `packets` in one round and finds nothing in the next. */
function rest({ idle }: ReturnType<typeof sleeper>, packets: number, looked = () => true): void {
  if (packets > 0) idle.shouldSleep(packets);
  expect(idle.shouldSleep(0)).toBe(true);
  idle.watch(FD);
  idle.sleep(false, FOREVER, looked);
}

test('packets at a high rate are coalesced: only the doorbell ends that sleep', () => {
  const worker = sleeper([
    ...Array.from({ length: 3 }, () => () => 1), // packets
    (pollfds) => {
      pollfds[1] = pollfds[1]! | (POLLIN << 16);
      return 1;
    },
  ]);
  worker.clock.millis = 7;
  rest(worker, 1000); // the millisecond in which these came has ended
  rest(worker, 200);
  rest(worker, 55);
  expect(worker.naps).toHaveLength(3);
  expect(worker.gathers).toEqual([]);
  rest(worker, 1, () => {
    throw new Error('looks once more');
  });
  expect(worker.naps).toHaveLength(3);
  expect(worker.gathers).toEqual([{ micros: 200, watched: [DOORBELL], asleep: 1 }]);
  expect(worker.reads).toEqual([DOORBELL]);
});

test('an idle worker coalesces for a shorter time at a high rate, for a longer time at a low rate, and not at a very low one', () => {
  const worker = sleeper(Array.from({ length: 100 }, () => () => 1));
  const { gathers, naps } = worker;
  worker.clock.millis = 1;
  rest(worker, 0);
  for (const packets of [256, 600, 513, 5000, 5000, 512, 256, 255, 100, 2, 60, 24, 23]) rest(worker, packets);
  expect(gathers.map(({ micros }) => micros)).toEqual([200, 100, 50, 25, 25, 25, 25, 50, 100, 200, 200, 200]);
  expect(naps).toHaveLength(2);
});

test('a ping-pong of single packets is never coalesced', () => {
  const worker = sleeper(Array.from({ length: 10_000 }, () => () => 1));
  for (let n = 0; n < 10_000; n++) {
    if (n % 70 === 0) worker.clock.millis++;
    rest(worker, 1);
  }
  expect(worker.gathers).toEqual([]);
});

test.each(['adaptive', 'poll'] as const)('mode %s coalesces nothing', (mode) => {
  const worker = sleeper([], mode);
  const { idle } = worker;
  for (let n = 0; n < 10; n++) {
    idle.shouldSleep(1000);
    idle.watch(FD);
    idle.sleep(false, FOREVER, () => true);
  }
  expect(worker.gathers).toEqual([]);
});

test('a mode that changes counts from the next empty round on', () => {
  const { idle, setMode } = sleeper([], 'poll');
  const empty = (rounds: number): boolean[] => Array.from({ length: rounds }, () => idle.shouldSleep(0));
  expect(empty(1_000)).not.toContain(true);
  setMode('interrupt');
  expect(empty(1)).toEqual([true]);
  expect(idle.shouldSleep(1)).toBe(false);
  setMode('adaptive');
  expect(empty(200)).not.toContain(true);
  expect(empty(1)).toEqual([true]);
  setMode('poll');
  expect(empty(1_000)).not.toContain(true);
});
