import fc from 'fast-check';
import { expect, it } from 'vitest';
import { QueueSpread } from '../../../src/coordinator/queue-spread.ts';
import { RETA_ENTRIES } from '../../../src/memory/geometry.ts';
import { Memory } from '../../../src/memory/shared.ts';

const QUEUES = 5;
const PORTS = 2;

const action = fc.oneof(
  fc.record({ what: fc.constantFrom('giveUp', 'restore'), queue: fc.nat(QUEUES - 1) }),
  fc.record({
    what: fc.constant('redirect' as const),
    port: fc.nat(PORTS - 1),
    queues: fc.uniqueArray(fc.nat(QUEUES - 1), { minLength: 1 }),
  }),
);

function table(memory: Memory, port: number): number[] {
  const at = memory.layout.redirection(port);
  return [...memory.bytes.slice(at, at + RETA_ENTRIES)];
}

const distinct = (queues: readonly number[]): number[] => [...new Set(queues)].sort();

it('no flow goes to a given-up queue while another queue is left, and each queue gets its flows back afterwards', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 20 }), (actions) => {
      const memory = Memory.create({
        ...{ pageSize: 4096, ports: PORTS, queues: QUEUES, frameSize: 2048 },
        ...{ framesPerWorker: 64, ringEntries: 64 },
      });
      const spread = new QueueSpread(memory);
      const undisturbed = new QueueSpread(memory);
      const givenUp = new Set<number>();
      const wanted = Array.from({ length: PORTS }, () => Array.from({ length: QUEUES }, (_, queue) => queue));
      for (const one of actions) {
        if (one.what === 'redirect') {
          spread.redirect(one.port, one.queues);
          wanted[one.port] = [...one.queues];
        } else if (one.what === 'giveUp') {
          spread.giveUp(one.queue);
          givenUp.add(one.queue);
        } else {
          spread.restore(one.queue);
          givenUp.delete(one.queue);
        }
        for (let port = 0; port < PORTS; port++) {
          const serving = wanted[port]!.filter((queue) => !givenUp.has(queue));
          const others = [0, 1, 2, 3, 4].filter((queue) => !givenUp.has(queue));
          const expected = serving.length > 0 ? serving : others.length > 0 ? others : wanted[port]!;
          expect(distinct(table(memory, port))).toEqual(distinct(expected));
          const shares = expected.map((queue) => table(memory, port).filter((one) => one === queue).length);
          expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
        }
      }
      for (const queue of givenUp) spread.restore(queue);
      const tables = [0, 1].map((port) => table(memory, port));
      for (const one of actions) if (one.what === 'redirect') undisturbed.redirect(one.port, one.queues);
      for (const queue of [0, 1, 2, 3, 4]) undisturbed.restore(queue);
      expect([0, 1].map((port) => table(memory, port))).toEqual(tables);
    }),
    { numRuns: 60 },
  );
});
