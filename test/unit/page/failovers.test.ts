/** What the live page makes of the journal's records: failovers of a port, and who owned a queue when. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ownerSpans } from '../../../src/page/browser/spans.ts';
import { Store } from '../../../src/page/browser/store.ts';
import { durationOf, groupSwitches, isFailover } from '../../../src/page/browser/switches.ts';
import type { Hello, Owner, QueueSwitch, Sample, Update } from '../../../src/page/messages.ts';

let number = 0;
const record = (
  from: Owner,
  to: Owner,
  endedNanos: number,
  more: Partial<QueueSwitch> = {},
): QueueSwitch => ({
  ...{ number: ++number, port: 0, queue: 0, from, to, reason: 'link down' },
  ...{
    detectedNanos: endedNanos - 30,
    orderedNanos: endedNanos - 20,
    beganNanos: endedNanos - 10,
    endedNanos,
  },
  ...{ drained: 0, rescued: 0, ...more },
});

describe('failovers', () => {
  it('are the switches of all queues with one cause, as long as the slowest', () => {
    const detectedNanos = 1000;
    const switches = groupSwitches([
      record('none', 'synthetic', 500, { reason: 'start' }),
      record('synthetic', 'vf', 1400, { queue: 1, detectedNanos, rescued: 2 }),
      record('synthetic', 'vf', 1300, { queue: 0, detectedNanos, rescued: 3, drained: 1 }),
    ]);
    expect(switches.map(isFailover)).toEqual([false, true]);
    expect(switches[1]).toMatchObject({ from: 'synthetic', to: 'vf', rescued: 5, drained: 1 });
    expect(switches[1]!.queues.map(({ queue }) => queue)).toEqual([0, 1]);
    expect(durationOf(switches[1]!)).toBe(400);
  });
});

describe('the owners of a queue', () => {
  it('are nothing before the port was opened, and the present one without a record', () => {
    const start = record('none', 'synthetic', 50, { reason: 'start' });
    expect(ownerSpans([start], 0, 90, 'synthetic')).toEqual([
      { fromNanos: 50, toNanos: 90, owner: 'synthetic' },
    ]);
    expect(ownerSpans([], 0, 90, 'vf')).toEqual([{ fromNanos: 0, toNanos: 90, owner: 'vf' }]);
  });

  it('are those that a search at each moment finds, without a gap', () => {
    const paths = fc.constantFrom<Owner>('vf', 'synthetic', 'none');
    const steps = fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), paths), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        paths,
        steps,
        fc.integer({ min: 0, max: 40 }),
        fc.integer({ min: 1, max: 60 }),
        (first, list, from, length) => {
          let [at, owner] = [0, first];
          const records = list.map(([wait, to]) => {
            at += wait;
            const made = record(owner, to, at);
            owner = to;
            return made;
          });
          const spans = ownerSpans(records, from, from + length, owner);
          for (let moment = from; moment < from + length; moment++) {
            const expected = records.findLast(({ endedNanos }) => endedNanos <= moment)?.to ?? first;
            const found = spans.filter(({ fromNanos, toNanos }) => fromNanos <= moment && moment < toNanos);
            expect(found.map((span) => span.owner)).toEqual([expected]);
          }
        },
      ),
    );
  });
});

describe('the store', () => {
  const hello: Hello = {
    ...{ twinpath: '1', pid: 1, epochMillis: 1000, sampleMillis: 500, resumed: false },
    ...{ keptSamples: 3, keptSwitches: 2 },
  };
  const sample = (sequence: number): Sample => ({ sequence, nanos: sequence * 1e6, ports: [] });
  const update = (samples: Sample[], switches: QueueSwitch[] = []): Update => ({
    samples,
    switches,
    ports: [],
  });

  it('keeps as much as the server does, goes on after a connection that was lost, and begins anew with another server', () => {
    const store = new Store();
    store.greet(hello);
    store.update(update([1, 2].map(sample), [record('none', 'vf', 1), record('vf', 'none', 2)]));
    store.greet({ ...hello, resumed: true });
    store.update(update([3, 4].map(sample), [record('none', 'vf', 3)]));
    expect(store.samples.map(({ sequence }) => sequence)).toEqual([2, 3, 4]);
    expect(store.switches.map(({ endedNanos }) => endedNanos)).toEqual([2, 3]);
    expect(store.nowNanos).toBe(4e6);
    expect(store.wallMillis(4e6)).toBe(1004);
    store.greet(hello);
    expect([store.samples, store.switches, store.nowNanos]).toEqual([[], [], 0]);
  });
});
