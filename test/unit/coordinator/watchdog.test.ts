import { beforeEach, expect, test } from 'vitest';
import { Watchdog } from '../../../src/coordinator/watchdog.ts';
import { handlingWord } from '../../../src/datapath/handler-call.ts';
import { Memory } from '../../../src/memory/shared.ts';

let memory: Memory;
let watchdog: Watchdog;
let ended: number[];

beforeEach(() => {
  memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  ended = [];
  watchdog = new Watchdog(memory, 1000, (queue) => ended.push(queue));
});

function enter(queue: number): void {
  memory.workers[queue]!.heartbeat++;
  memory.workers[queue]!.handling = handlingWord(0, 1, 5);
}
function leave(queue: number): void {
  memory.workers[queue]!.handling = 0;
}
const stuck = (queue: number): number => memory.workers[queue]!.stuck;
function look(times: number): void {
  for (let i = 0; i < times; i++) watchdog.check();
}

test('the worker of a handler that does not return within the timeout is ended once', () => {
  expect(watchdog.periodMillis).toBe(250);
  enter(1);
  look(4); // the first of which finds the call begun
  expect(ended).toEqual([]);
  look(1);
  expect(ended).toEqual([1]);
  expect([stuck(0), stuck(1)]).toEqual([0, 1]);
  look(50);
  expect(ended).toEqual([1]);
});

test('a worker is not ended if it calls its handler repeatedly, or never', () => {
  for (let call = 0; call < 30; call++) {
    enter(0);
    look(1);
  }
  leave(0);
  look(30);
  expect(ended).toEqual([]);
});

test('a worker that died in its handler is not ended again, however late its replacement comes', () => {
  enter(0);
  look(2);
  watchdog.died(0);
  look(50);
  expect(ended).toEqual([]);
  // The next one takes over, and is stuck as well.
  leave(0);
  look(1);
  enter(0);
  look(5);
  expect(ended).toEqual([0]);
});

test('a worker that is stuck in its first call, during the takeover, is ended', () => {
  enter(0);
  look(5);
  enter(0);
  look(5);
  expect(ended).toEqual([0, 0]);
});
