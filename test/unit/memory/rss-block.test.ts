/** The RSS block: what a reader takes is what was written, whole, or nothing. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RssReader, type RssValues, writeRss } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';

const newMemory = (): Memory =>
  Memory.create({
    ...{ pageSize: 4096, ports: 2, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });

const values = fc.record({
  key: fc.uint8Array({ minLength: 40, maxLength: 52 }),
  hashTypes: fc.nat(63),
  table: fc.uint8Array({ minLength: 128, maxLength: 128 }),
});

const seen = ({ key, hashTypes, table }: RssReader) => ({ key: [...key], hashTypes, table: [...table] });
const expected = ({ key, hashTypes, table }: RssValues) => ({
  key: [...key.slice(0, 40)],
  hashTypes,
  table: [...table],
});

it('a reader takes what was written last, for each port by itself', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(1), values, fc.boolean()), { minLength: 1 }), (writes) => {
      const memory = newMemory();
      const readers = [0, 1].map((port) => new RssReader(memory, port));
      for (const reader of readers) reader.take();
      for (const [port, value, ordered] of writes) {
        writeRss(memory, port, value, ordered);
        const reader = readers[port]!;
        expect(reader.isStale).toBe(true);
        expect(readers[1 - port]!.isStale).toBe(false);
        expect(reader.take()).toBe(true);
        expect(seen(reader)).toEqual(expected(value));
        expect(reader.ordered).toBe(ordered);
        expect(reader.isStale).toBe(false);
      }
    }),
  );
});

it('a reader that meets a writer at any step keeps what it has, and takes all of the new in a later round', () => {
  const [old, fresh] = fc.sample(values, { numRuns: 2, seed: 1 }) as [RssValues, RssValues];
  const { load, store } = Atomics;
  let stores = 0;
  const memory = newMemory();
  writeRss(memory, 0, old, true);
  Atomics.store = ((...args: Parameters<typeof store>) => {
    stores++;
    return store(...args);
  }) as typeof store;
  writeRss(memory, 1, fresh, true);
  Atomics.store = store;
  // The reader comes between two stores of the writer.
  for (let step = 1; step < stores; step++) {
    const met = newMemory();
    writeRss(met, 0, old, true);
    const reader = new RssReader(met, 0);
    reader.take();
    let done = 0;
    Atomics.store = ((...args: Parameters<typeof store>) => {
      const result = store(...args);
      if (++done === step) expect(reader.isStale && reader.take()).toBe(false);
      return result;
    }) as typeof store;
    try {
      writeRss(met, 0, fresh, true);
    } finally {
      Atomics.store = store;
    }
    expect(seen(reader)).toEqual(expected(old));
    expect(reader.take()).toBe(true);
    expect(seen(reader)).toEqual(expected(fresh));
  }
  // The writer comes between two loads of the reader.
  for (let step = 1; step < 46; step++) {
    const met = newMemory();
    writeRss(met, 0, old, true);
    const reader = new RssReader(met, 0);
    reader.take();
    writeRss(met, 0, old, true);
    let done = 0;
    Atomics.load = ((...args: Parameters<typeof load>) => {
      const result = load(...args);
      if (++done === step) {
        Atomics.load = load;
        writeRss(met, 0, fresh, true);
      }
      return result;
    }) as typeof load;
    let taken: boolean;
    try {
      taken = reader.take();
    } finally {
      Atomics.load = load;
    }
    expect(taken, `after load ${step}`).toBe(false);
    expect(seen(reader)).toEqual(expected(old));
    expect(reader.take()).toBe(true);
    expect(seen(reader)).toEqual(expected(fresh));
  }
});
