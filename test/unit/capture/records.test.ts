/** The ring of captured packets: what is read is what was written, in order, wherever the ring ends. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_VERDICT, RecordReceiver, RecordSender } from '../../../src/capture/records.ts';
import { CAPTURE_SLOT } from '../../../src/memory/geometry.ts';
import { Memory } from '../../../src/memory/shared.ts';

const ID = 7;
const geometry = {
  pageSize: 4096,
  ports: 1,
  queues: 16,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};
/** Queues of one memory, which a run each has for itself: its cursors begin where they are. */
const memory = Memory.create(geometry);
const { layout, words, bytes } = memory;

/** Cursors just before the end of 31 bits. */
function rewind(queue: number, from: number): void {
  const at = layout.captureRing(0, queue) >> 2;
  words[at] = from;
  words[at + 32] = from;
}

const steps = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('push' as const),
        length: fc.integer({ min: 1, max: 69_632 }),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('push' as const), length: fc.integer({ min: 1, max: 200 }) }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'commit' as const }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), count: fc.nat(6) }) },
    { weight: 1, arbitrary: fc.constant({ kind: 'successor' as const }) },
  ),
  { maxLength: 60 },
);

describe('the ring of a capture', () => {
  it('gives the records that were committed, in order, and refuses what has no room', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: -3000, max: 3000 }), (all, start) => {
        rewind(0, (0x7fffffff + start) | 0);
        let sender = new RecordSender(memory, 0, 0);
        const receiver = new RecordReceiver(memory, 0, 0, ID);
        const staged: number[][] = [];
        const committed: number[][] = [];
        let next = 0;
        const read = (): void => {
          const expected = committed.shift();
          expect(receiver.next()).toBe(expected !== undefined);
          if (expected === undefined) return;
          const { interface: number, verdict, length, missed, copied, seconds, nanos, at } = receiver;
          expect([
            number,
            verdict,
            length,
            missed,
            copied,
            seconds,
            nanos,
            bytes[at],
            bytes[at + copied - 1],
          ]).toEqual(expected);
          receiver.release();
        };
        for (const step of all) {
          if (step.kind === 'push') {
            const mark = next++ & 0xff;
            bytes.fill(mark, layout.frames, layout.frames + step.length);
            const record = sender.push(ID, layout.frames, step.length, step.length + 1, mark % 6, mark);
            if (record < 0) {
              const waiting = [...committed, ...staged].reduce(
                (sum, [, , , , copied]) => sum + Math.ceil((32 + copied!) / CAPTURE_SLOT),
                0,
              );
              // At most a record's own room is lost at the end of the ring.
              const wanted = Math.ceil((32 + step.length) / CAPTURE_SLOT);
              expect(waiting + 3 * 1089 + wanted).toBeGreaterThan(layout.captureEntries);
              continue;
            }
            sender.stamp(record, 5, mark);
            if (mark % 2 === 0) sender.decide(record, 3);
            const verdict = mark % 2 === 0 ? 3 : NO_VERDICT;
            staged.push([mark % 6, verdict, step.length + 1, mark, step.length, 5, mark, mark, mark]);
          } else if (step.kind === 'commit') {
            sender.commit();
            committed.push(...staged.splice(0));
          } else if (step.kind === 'read') for (let i = 0; i < step.count; i++) read();
          else {
            // Another worker goes on where the last one has published.
            staged.length = 0;
            sender = new RecordSender(memory, 0, 0);
          }
        }
        sender.commit();
        committed.push(...staged);
        while (committed.length > 0) read();
        read();
      }),
      { numRuns: 300 },
    );
  });

  it('leaves out the records of an earlier capture', () => {
    rewind(1, 0);
    const sender = new RecordSender(memory, 0, 1);
    for (const [id, mark] of [
      [ID - 1, 1],
      [ID, 2],
      [ID - 1, 3],
      [ID, 4],
    ] as const)
      sender.push(id, layout.frames, 10, 10, mark, 0);
    sender.commit();
    const receiver = new RecordReceiver(memory, 0, 1, ID);
    const seen: number[] = [];
    for (; receiver.next(); receiver.release()) seen.push(receiver.interface);
    expect(seen).toEqual([2, 4]);
  });

  it.each([0, -1, 3, 1 << 30])('goes on behind a record of %i slots where there are two', (slots) => {
    rewind(2, 0);
    const sender = new RecordSender(memory, 0, 2);
    const receiver = new RecordReceiver(memory, 0, 2, ID);
    const record = sender.push(ID - 1, layout.frames, 10, 10, 0, 0);
    sender.push(ID, layout.frames, 10, 10, 0, 0);
    words[record + 7] = slots;
    sender.commit();
    expect([receiver.next(), receiver.damaged]).toEqual([false, 1]);
    sender.push(ID, layout.frames, 10, 10, 5, 0);
    sender.commit();
    expect([receiver.next(), receiver.interface, receiver.damaged]).toEqual([true, 5, 1]);
  });
});
