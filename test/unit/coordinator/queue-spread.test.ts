/** How workers spread flows, against an obvious model, whatever happens in which order. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changed, checkChange, initial } from '../../../src/configuration.ts';
import { idleModeOf } from '../../../src/coordinator/idle-mode.ts';
import { QueueSpread } from '../../../src/coordinator/queue-spread.ts';
import { RssReader } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { HASH_TYPES, hashTypesOf, type RssChange } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY, keyOf, SYMMETRIC_KEY } from '../../../src/rss/key.ts';
import { retaIndex } from '../../../src/rss/redirection.ts';

const QUEUES = 5;
const PORTS = 2;
const ALL = [0, 1, 2, 3, 4];
const queue = fc.nat(QUEUES - 1);
const key = fc.constantFrom('default', 'symmetric', 'ab'.repeat(40), null);
const table = fc.oneof(
  fc.constant(null),
  fc.constantFrom(1, 2, 8, 128).chain((length) => fc.array(queue, { minLength: length, maxLength: length })),
);
const hashTypes = fc.oneof(fc.constant(null), fc.subarray([...HASH_TYPES]));
const action = fc.oneof(
  fc.record({ what: fc.constant('giveUp' as const), queue }),
  fc.record({ what: fc.constant('restore' as const), queue }),
  fc.record({
    what: fc.constant('configure' as const),
    port: fc.nat(PORTS - 1),
    change: fc.record(
      {
        rss: fc.oneof(fc.constant(null), fc.record({ key, table, hashTypes }, { requiredKeys: [] })),
        queues: fc.oneof(fc.constant(null), fc.uniqueArray(queue, { minLength: 1 })),
      },
      { requiredKeys: [] },
    ),
  }),
);

/** What a port has been asked for, kept as plainly as possible. */
interface Asked {
  key: string | null;
  table: number[] | null;
  hashTypes: string[] | null;
  queues: number[] | null;
}

const NOTHING: Asked = { key: null, table: null, hashTypes: null, queues: null };

function ask(asked: Asked, { rss, queues }: { rss?: RssChange | null; queues?: number[] | null }): Asked {
  const fresh = rss === null ? { ...asked, key: null, table: null, hashTypes: null } : { ...asked, ...rss };
  return { ...fresh, queues: queues === undefined ? asked.queues : queues } as Asked;
}

const newMemory = (): Memory =>
  Memory.create({
    ...{ pageSize: 4096, ports: PORTS, queues: QUEUES, frameSize: 2048 },
    ...{ framesPerWorker: 64, ringEntries: 64 },
  });

const settings = { ports: [{}, {}], rssKey: SYMMETRIC_KEY, mode: 'adaptive' } as const;

function inForce(memory: Memory, port: number) {
  const reader = new RssReader(memory, port);
  expect(reader.take()).toBe(true);
  return { key: [...reader.key], table: [...reader.table], hashTypes: hashTypesOf(reader.hashTypes) };
}

/** Where each hash has to go: the first of these sets that is not empty, and what the table says of it. */
function expectSpread(found: ReturnType<typeof inForce>, asked: Asked, givenUp: ReadonlySet<number>): void {
  const active = asked.queues ?? ALL;
  const alive = (queues: number[]): number[] => queues.filter((one) => !givenUp.has(one));
  const allowed = [alive(active), alive(ALL), active].find(({ length }) => length > 0)!;
  const wantedKey = asked.key === null ? SYMMETRIC_KEY : keyOf(asked.key);
  expect(found.key).toEqual([...wantedKey.slice(0, 40)]);
  expect(found.hashTypes).toEqual(HASH_TYPES.filter((type) => asked.hashTypes?.includes(type) ?? true));
  const wanted = asked.table;
  if (wanted === null) {
    expect([...new Set(found.table)].sort()).toEqual([...allowed].sort());
    const shares = allowed.map((one) => found.table.filter((to) => to === one).length);
    expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(1);
    return;
  }
  const heirs = allowed.filter((one) => wanted.includes(one));
  const got = new Map((heirs.length > 0 ? heirs : allowed).map((one) => [one, 0]));
  for (let hash = 0; hash < 256; hash++) {
    const to = found.table[retaIndex(hash)]!;
    const own = wanted[hash % wanted.length]!;
    if (allowed.includes(own)) expect(to).toBe(own);
    else got.set(to, got.get(to)! + 1);
  }
  const counts = [...got.values()];
  expect(counts).not.toContain(Number.NaN); // only heirs
  expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2); // each entry has two of the hashes
}

describe('the spread of flows', () => {
  it('is as configured, never by a stopped or given-up queue while another is left, and comes back as it was', () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 20 }), (actions) => {
        const memory = newMemory();
        const spread = new QueueSpread(memory, settings);
        const givenUp = new Set<number>();
        const configurations = [initial({}), initial({})];
        const asked = [NOTHING, NOTHING];
        for (const one of actions) {
          if (one.what === 'configure') {
            const { port, change } = one;
            configurations[port] = changed(configurations[port]!, checkChange(change, 2048, QUEUES));
            spread.configure(port, configurations[port]!);
            asked[port] = ask(asked[port]!, change);
          } else if (one.what === 'giveUp') {
            spread.giveUp(one.queue);
            givenUp.add(one.queue);
          } else {
            spread.restore(one.queue);
            givenUp.delete(one.queue);
          }
          for (const port of [0, 1]) expectSpread(inForce(memory, port), asked[port]!, givenUp);
        }
        for (const one of givenUp) spread.restore(one);
        // It depends on nothing but the last configuration.
        const fresh = newMemory();
        const ports = configurations.map(({ generation, ...configuration }) => ({ configuration }));
        new QueueSpread(fresh, { ...settings, ports });
        for (const port of [0, 1]) expect(inForce(memory, port)).toEqual(inForce(fresh, port));
      }),
      { numRuns: 100 },
    );
  });

  it('begins with the key of the option and the configuration that the port is opened with', () => {
    const memory = newMemory();
    const configuration = checkChange(
      { rss: { table: [3, 1], hashTypes: ['udp4'] }, queues: [1, 3] },
      2048,
      5,
    );
    new QueueSpread(memory, { ports: [{ configuration }, {}], rssKey: DEFAULT_KEY, mode: 'poll' });
    expect(inForce(memory, 0)).toEqual({
      key: [...DEFAULT_KEY],
      table: Array.from({ length: 128 }, (_, i) => (i % 2 === 0 ? 3 : 1)),
      hashTypes: ['udp4'],
    });
    expect([...new Set(inForce(memory, 1).table)]).toEqual(ALL);
  });
});

describe('an idle worker', () => {
  const modes = ['poll', 'adaptive', 'interrupt'] as const;
  const port = fc.record({
    mode: fc.constantFrom(...modes),
    started: fc.boolean(),
    queues: fc.oneof(fc.constant(null), fc.uniqueArray(queue, { minLength: 1 })),
  });

  it('does what the port asks for that is to wait least, of those that use its queue', () => {
    fc.assert(
      fc.property(fc.array(port, { minLength: 1, maxLength: 4 }), queue, (ports, number) => {
        const mode = idleModeOf(ports, number);
        const asks = (wanted: string): boolean =>
          ports.some((one) => one.started && (one.queues ?? ALL).includes(number) && one.mode === wanted);
        expect(mode === 'poll').toBe(asks('poll'));
        expect(mode === 'adaptive').toBe(!asks('poll') && asks('adaptive'));
      }),
    );
  });

  it('is told by one word, for each port as it is configured', () => {
    const memory = newMemory();
    const spread = new QueueSpread(memory, settings);
    const words = (): number[] => memory.workers.map(({ idleMode }) => idleMode);
    expect(words()).toEqual([1, 1, 1, 1, 1]);
    spread.configure(1, { ...initial({}), mode: 'poll', queues: [0, 2] });
    expect(words()).toEqual([0, 1, 0, 1, 1]);
    spread.configure(0, { ...initial({}), mode: 'interrupt' });
    expect(words()).toEqual([0, 2, 0, 2, 2]);
    spread.configure(1, { ...initial({}), mode: 'poll', started: false });
    expect(words()).toEqual([2, 2, 2, 2, 2]);
  });
});
