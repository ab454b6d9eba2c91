import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { imbalances } from '../../../src/cli/imbalances.ts';
import { PATH_COUNTERS, QUEUE_COUNTERS } from '../../../src/memory/counters.ts';
import { PATH_NAMES } from '../../../src/memory/layout.ts';
import type { PathStatistics, PortStatistics, QueueStatistics } from '../../../src/statistics.ts';

const PATHS = ['vf', 'synthetic', 'host'] as const;
type Counts = Record<string, number>;

const zeros = (names: readonly string[]): Counts => Object.fromEntries(names.map((name) => [name, 0]));

/** One queue of a port, from what differs from zero. */
function statistics(queue: Counts, paths: Partial<Record<(typeof PATHS)[number], Counts>>): PortStatistics {
  const all = Object.fromEntries(PATHS.map((name) => [name, { ...zeros(PATH_COUNTERS), ...paths[name] }]));
  return {
    paths: all as unknown as Record<string, PathStatistics>,
    queues: [{ queue: 0, owner: PATH_NAMES[0], ...zeros(QUEUE_COUNTERS), ...queue, paths: all } as unknown],
  } as unknown as PortStatistics & { queues: QueueStatistics[] };
}

/** What one packet did to the counters, by what became of it. */
const STORIES: Record<string, readonly [queue: Counts, path: Counts]> = {
  sent: [{}, { rxPackets: 1, txPosted: 1, txPackets: 1 }],
  refused: [{}, { rxPackets: 1, txPosted: 1, txErrors: 1 }],
  'gone with the device': [{}, { rxPackets: 1, txPosted: 1, txUnknown: 1 }],
  'given again': [{}, { rxPackets: 1, txPosted: 2, txRetried: 1, txPackets: 1 }],
  rescued: [{}, { rxPackets: 1, txPosted: 2, txRescued: 1, txPackets: 1 }],
  dropped: [{ dropVerdict: 1 }, { rxPackets: 1 }],
  'not sent': [{ dropTxFull: 1 }, { rxPackets: 1 }],
  'made by the handler': [{ sent: 1 }, { txPosted: 1, txPackets: 1 }],
  'handed over': [{ handedOver: 1 }, { rxPackets: 1 }],
  'taken over': [{ takenOver: 1 }, { txPosted: 1, txPackets: 1 }],
  delivered: [{ delivered: 1 }, { rxPackets: 1 }],
};

const addTo = (sum: Counts, more: Counts): void => {
  for (const [name, count] of Object.entries(more)) sum[name] = (sum[name] ?? 0) + count;
};

const told = fc.array(fc.tuple(fc.constantFrom(...Object.keys(STORIES)), fc.constantFrom(...PATHS)), {
  maxLength: 40,
});

function tell(stories: readonly (readonly [string, (typeof PATHS)[number]])[]) {
  const queue: Counts = {};
  const paths: Record<(typeof PATHS)[number], Counts> = { vf: {}, synthetic: {}, host: {} };
  for (const [story, path] of stories) {
    addTo(queue, STORIES[story]![0]);
    addTo(paths[path], STORIES[story]![1]);
  }
  return { queue, paths };
}

describe('the balance of a port', () => {
  it('adds up for every fate of the packets', () => {
    fc.assert(
      fc.property(told, (stories) => {
        const { queue, paths } = tell(stories);
        expect(imbalances(statistics(queue, paths))).toEqual([]);
      }),
    );
  });

  it('does not add up if one packet is missing', () => {
    fc.assert(
      fc.property(told, (stories) => {
        const { queue, paths } = tell(stories);
        addTo(paths.vf, { rxPackets: 1 });
        const [sentence] = imbalances(statistics(queue, paths));
        expect(sentence).toMatch(/^queue 0 took in \d+ packets and accounts for \d+$/);
        addTo(paths.vf, { txPosted: 1 });
        expect(imbalances(statistics(queue, paths))[0]).toMatch(/^the path vf was given \d+ packets/);
      }),
    );
  });
});
