/** Counters of devices that come and go never decrease and never disappear. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CounterHistory } from '../../src/counter-history.ts';
import { ExtendedHistory } from '../../src/extended-statistics.ts';

describe('a counter', () => {
  it('goes on from what its last device had reached', () => {
    const history = new CounterHistory();
    history.read(7, { rx: 100 });
    history.read(7, { rx: 130 });
    expect(history.totals()).toEqual({ rx: 130 });
    history.read(9, { rx: 500 });
    expect(history.totals()).toEqual({ rx: 630 });
    history.read(9, { rx: 20 }); // its driver has set it up again
    expect(history.totals()).toEqual({ rx: 650 });
  });

  it('that a device does not report any more keeps its value', () => {
    const history = new CounterHistory();
    history.read(7, { rx_0: 10, rx_1: 20 });
    history.read(7, { rx_0: 15 });
    history.read(8, {});
    expect(history.totals()).toEqual({ rx_0: 15, rx_1: 20 });
  });
});

/** A device that counts: what it has counted is known, whatever a reader sees of it. */
interface Step {
  readonly kind: 'count' | 'read' | 'replug' | 'reset' | 'fewer' | 'more';
  readonly name: string;
  readonly by: number;
}

const NAMES = ['rx_packets', 'tx_packets', 'rx_queue_1_drops'];
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('count', 'count', 'read', 'read', 'replug', 'reset', 'fewer', 'more'),
  name: fc.constantFrom(...NAMES),
  by: fc.integer({ min: 0, max: 1000 }),
});

it('no counter falls or disappears in any sequence of readings, replugs, resets and changed queues', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const history = new CounterHistory();
      let ifindex = 1;
      let device = new Map(NAMES.map((name) => [name, 0]));
      let before: Record<string, number> = {};
      /** All readings so far, of which the model makes the totals anew. */
      const readings: { device: number; counters: Record<string, number> }[] = [];
      for (const { kind, name, by } of steps) {
        if (kind === 'count' && device.has(name)) device.set(name, device.get(name)! + by);
        if (kind === 'replug') {
          ifindex++;
          device = new Map(NAMES.map((one) => [one, by]));
        }
        if (kind === 'reset') for (const one of device.keys()) device.set(one, 0);
        if (kind === 'fewer') device.delete(name);
        if (kind === 'more' && !device.has(name)) device.set(name, by);
        if (kind !== 'read') continue;
        const counters = Object.fromEntries(device);
        history.read(ifindex, counters);
        readings.push({ device: ifindex, counters });
        const now = history.totals();
        for (const [one, value] of Object.entries(before)) expect(now[one]).toBeGreaterThanOrEqual(value);
        expect(now).toEqual(slowTotals(readings));
        before = now;
      }
    }),
    { numRuns: 300 },
  );
});

/** For each name: its readings cut into runs that do not fall and are of one device; the sum of the runs' last values. */
function slowTotals(
  readings: readonly { device: number; counters: Record<string, number> }[],
): Record<string, number> {
  const names = new Set(readings.flatMap(({ counters }) => Object.keys(counters)));
  const total = (name: string): number => {
    const own = readings.filter(({ counters }) => name in counters);
    const lasts = own.filter(({ device, counters }, i) => {
      const next = own[i + 1];
      return next === undefined || next.device !== device || next.counters[name]! < counters[name]!;
    });
    return lasts.reduce((sum, { counters }) => sum + counters[name]!, 0);
  };
  return Object.fromEntries([...names].map((name) => [name, total(name)]));
}

it('each path has its own history, which stays when the path has no device', () => {
  const history = new ExtendedHistory();
  const synthetic = { key: 1, link: { rx_packets: 5 }, driver: {} };
  const vf = { key: 2, link: { rx_packets: 9 }, driver: { rx_steer: 3 } };
  expect(history.read({ synthetic, vf, filtered: { synthetic: 3, vf: 4 } })).toEqual({
    synthetic: { link: { rx_packets: 5 }, driver: {}, filtered: 3 },
    vf: { link: { rx_packets: 9 }, driver: { rx_steer: 3 }, filtered: 4 },
  });
  expect(history.read({ synthetic, vf: undefined }).vf).toEqual({
    ...{ link: { rx_packets: 9 }, driver: { rx_steer: 3 } },
    filtered: 4,
  });
});
