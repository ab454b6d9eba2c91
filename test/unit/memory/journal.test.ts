import { expect, test } from 'vitest';
import { JOURNAL_RECORDS } from '../../../src/memory/geometry.ts';
import { type Failover, Journal } from '../../../src/memory/journal.ts';
import { Memory } from '../../../src/memory/shared.ts';

const memory = (): Memory =>
  Memory.create({
    pageSize: 4096,
    ports: 1,
    queues: 1,
    frameSize: 2048,
    framesPerWorker: 64,
    ringEntries: 64,
  });

const record = (queue: number): Omit<Failover, 'sequence'> => ({
  port: 0,
  queue,
  from: 'vf',
  to: 'synthetic',
  reason: 'link down',
  detectedNanos: 1e15 + queue,
  orderedNanos: 1e15 + 1,
  beganNanos: 1e15 + 2,
  endedNanos: 1e15 + 3,
  drained: 4,
  rescued: 5,
});

test('every holder of the memory reads a journal record as it was written', () => {
  const written = memory();
  const appended = new Journal(written).append(record(3));
  const read = new Journal(Memory.attach(written.shared)).since(0);
  expect(read).toEqual([appended]);
  expect(read[0]).toEqual({ sequence: 0, ...record(3) });
});

test('since gives the records from a number on, oldest first', () => {
  const journal = new Journal(memory());
  for (let i = 0; i < 5; i++) journal.append(record(i));
  expect(journal.since(3).map(({ queue }) => queue)).toEqual([3, 4]);
  expect(journal.since(5)).toEqual([]);
});

test('a full journal forgets the oldest records and numbers the others on', () => {
  const journal = new Journal(memory());
  for (let i = 0; i < JOURNAL_RECORDS + 10; i++) journal.append(record(i));
  const kept = journal.since(0);
  expect(kept).toHaveLength(JOURNAL_RECORDS);
  expect(kept[0]!.sequence).toBe(10);
  expect(kept.at(-1)!.queue).toBe(JOURNAL_RECORDS + 9);
});
