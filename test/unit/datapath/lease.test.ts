import fc from 'fast-check';
import { expect, it } from 'vitest';
import { endLease, grantLease, hasLease, revokeLease, takeLease } from '../../../src/datapath/lease.ts';
import { Memory } from '../../../src/memory/shared.ts';

const memoryOf = (): Memory =>
  Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });

const QUEUE = 1;

it('a worker takes a lease that is granted to it, and has it until it ends', () => {
  const memory = memoryOf();
  grantLease(memory, QUEUE, 7);
  expect(hasLease(memory, QUEUE, 7)).toBe(false);
  takeLease(memory, QUEUE, 7);
  expect(hasLease(memory, QUEUE, 7)).toBe(true);
  expect(revokeLease(memory, QUEUE, 7)).toBe(false);
  expect(hasLease(memory, QUEUE, 7)).toBe(true);
  endLease(memory, QUEUE);
  expect(hasLease(memory, QUEUE, 7)).toBe(false);
});

it('a worker whose grant was revoked does not get the lease', () => {
  const memory = memoryOf();
  const at = memory.workers[QUEUE]!.at('lease');
  grantLease(memory, QUEUE, 7);
  expect(revokeLease(memory, QUEUE, 7)).toBe(true);
  expect(Atomics.compareExchange(memory.words, at, 7, -7)).toBe(0);
  expect(revokeLease(memory, QUEUE, 8)).toBe(true); // it was never granted
});

it('no two workers have the lease, in any order of grants, takes, revocations and ends', () => {
  const step = fc.record({
    what: fc.constantFrom('grant', 'take', 'revoke', 'end'),
    worker: fc.integer({ min: 1, max: 3 }),
  });
  fc.assert(
    fc.property(fc.array(step), (steps) => {
      const memory = memoryOf();
      const at = memory.workers[QUEUE]!.at('lease');
      for (const { what, worker } of steps) {
        if (what === 'grant') grantLease(memory, QUEUE, worker);
        else if (what === 'end') endLease(memory, QUEUE);
        else if (what === 'take') {
          if (Atomics.load(memory.words, at) === worker) takeLease(memory, QUEUE, worker);
        } else {
          const served = hasLease(memory, QUEUE, worker);
          expect(revokeLease(memory, QUEUE, worker)).toBe(!served);
          expect(hasLease(memory, QUEUE, worker)).toBe(served);
        }
        expect([1, 2, 3].filter((one) => hasLease(memory, QUEUE, one)).length).toBeLessThanOrEqual(1);
      }
    }),
    { numRuns: 60 },
  );
});
