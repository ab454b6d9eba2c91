import { expect, it } from 'vitest';
import { closeDoorbells, openDoorbells, ringDoorbell } from '../../../src/kernel/doorbell.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { Memory } from '../../../src/memory/shared.ts';

it('a doorbell that is rung after it was closed writes to no descriptor, and standard input is none', () => {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const written: number[] = [];
  let next = 40;
  const shim = {
    eventfd: () => next++,
    write: (fd: number) => written.push(fd),
    close: () => 0,
  } as unknown as Shim;
  openDoorbells(shim, memory);
  ringDoorbell(shim, memory, 0);
  expect(written).toEqual([memory.workers[0]!.doorbellFd]);
  closeDoorbells(shim, memory);
  ringDoorbell(shim, memory, 0);
  expect(written).toHaveLength(1);
});
