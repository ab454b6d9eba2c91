import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DUPLICATE, Gaps, Latency, SequenceLedger, UNKNOWN } from '../../../src/lab/measurement.ts';
import { attribute, type Window } from '../../../src/lab/reports.ts';

/** The obvious implementation: one entry for each packet. */
class NaiveLedger {
  readonly packets: { flow: number; sequence: number; at: number; copies: number; late: boolean }[] = [];
  unknown = 0;

  sent(flow: number, count: number, at: number): void {
    for (let i = 0; i < count; i++) {
      const sequence = this.packets.filter((p) => p.flow === flow).length;
      this.packets.push({ flow, sequence, at, copies: 0, late: false });
    }
  }

  received(flow: number, sequence: number): number {
    const packet = this.packets.find((p) => p.flow === flow && p.sequence === sequence);
    if (!packet) {
      this.unknown++;
      return UNKNOWN;
    }
    if (packet.copies++ > 0) return DUPLICATE;
    packet.late = this.packets.some((p) => p.flow === flow && p.copies > 0 && p.sequence > sequence);
    return packet.at;
  }

  tally(flow?: number) {
    const own = this.packets.filter((p) => flow === undefined || p.flow === flow);
    return {
      sent: own.length,
      received: own.filter((p) => p.copies > 0).length,
      lost: own.filter((p) => p.copies === 0).length,
      duplicated: own.reduce((sum, p) => sum + Math.max(0, p.copies - 1), 0),
      reordered: own.filter((p) => p.late).length,
      unknown: flow === undefined ? this.unknown : 0,
    };
  }
}

const FLOWS = 3;
const step = fc.oneof(
  fc.record({
    kind: fc.constant('sent' as const),
    flow: fc.nat(FLOWS - 1),
    count: fc.integer({ min: 1, max: 5 }),
  }),
  fc.record({ kind: fc.constant('received' as const), flow: fc.nat(FLOWS), sequence: fc.nat(12) }),
);
const windows = fc.array(
  fc.record({ name: fc.constantFrom('unplug', 'surprise', 'flap'), from: fc.nat(40), length: fc.nat(10) }),
  { maxLength: 4 },
);

describe('a sequence ledger', () => {
  it('agrees with a naive ledger about every packet, flow and total', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), windows, (steps, some) => {
        const ledger = new SequenceLedger(FLOWS);
        const naive = new NaiveLedger();
        steps.forEach((s, now) => {
          if (s.kind === 'sent') {
            ledger.sent(s.flow, s.count, now);
            naive.sent(s.flow, s.count, now);
          } else {
            expect(ledger.received(s.flow, s.sequence)).toBe(naive.received(s.flow, s.sequence));
          }
        });
        expect(ledger.tally()).toEqual(naive.tally());
        for (let flow = 0; flow < FLOWS; flow++) expect(ledger.tally(flow)).toEqual(naive.tally(flow));
        expect(ledger.sentTotal - ledger.receivedTotal).toBe(naive.tally().lost);

        const lost = naive.packets.filter((p) => p.copies === 0);
        expect([...ledger.lostAt()]).toEqual(lost.map(({ at }) => at).sort((a, b) => a - b));
        expect(ledger.lostAt().filter((at) => at >= 5 && at < 20).length).toBe(
          lost.filter(({ at }) => at >= 5 && at < 20).length,
        );

        const causes: Window[] = some.map(({ name, from, length }) => ({ name, from, to: from + length }));
        const counts = attribute(ledger.lostAt(), causes);
        expect(Object.values(counts).reduce((a, b) => a + b, 0)).toBe(lost.length);
        const cause = (at: number) =>
          causes.find(({ from, to }) => at >= from && at < to)?.name ?? 'unexplained';
        for (const name of Object.keys(counts)) {
          expect(counts[name]).toBe(lost.filter(({ at }) => cause(at) === name).length);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('recognises a duplicate after the block of its first copy has been freed', () => {
    const ledger = new SequenceLedger(1);
    ledger.sent(0, 10_000, 7);
    for (let i = 0; i < 10_000; i++) if (i !== 9_000) expect(ledger.received(0, i)).toBe(7);
    expect(ledger.received(0, 3)).toBe(DUPLICATE);
    expect(ledger.received(0, 10_000)).toBe(UNKNOWN);
    expect(ledger.received(1, 0)).toBe(UNKNOWN);
    expect(ledger.tally()).toEqual({
      ...{ sent: 10_000, received: 9_999, lost: 1 },
      ...{ duplicated: 1, reordered: 0, unknown: 2 },
    });
    expect([...ledger.lostAt()]).toEqual([7]);
  });

  it('counts a packet as reordered only once, and only within its flow', () => {
    const ledger = new SequenceLedger(2);
    ledger.sent(0, 4, 0);
    ledger.sent(1, 4, 0);
    for (const [flow, sequence] of [
      [0, 3],
      [1, 0],
      [0, 1],
      [0, 1],
      [0, 2],
      [1, 1],
    ] as const) {
      ledger.received(flow, sequence);
    }
    expect(ledger.tally(0)).toMatchObject({ reordered: 2, duplicated: 1 });
    expect(ledger.tally(1)).toMatchObject({ reordered: 0, duplicated: 0 });
  });

  it('reports losses outside all windows as unexplained', () => {
    expect(attribute(Float64Array.of(1, 5, 9), [{ name: 'unplug', from: 5, to: 9 }])).toEqual({
      unplug: 1,
      unexplained: 2,
    });
    expect(attribute(new Float64Array(0), [])).toEqual({ unexplained: 0 });
  });
});

describe('a latency histogram', () => {
  it('returns quantiles that are at most 1/32 too high and never too low', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 4_000_000_000 }), { minLength: 1, maxLength: 50 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (times, share) => {
          const latency = new Latency();
          for (const time of times) latency.record(time);
          const exact = [...times].sort((a, b) => a - b)[Math.ceil(share * times.length) - 1]!;
          expect(latency.quantile(share)).toBeGreaterThanOrEqual(exact);
          expect(latency.quantile(share)).toBeLessThanOrEqual(exact * (1 + 1 / 32) + 1);
          expect(latency.max).toBe(Math.max(...times));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('returns 0 if nothing was recorded', () => {
    expect(new Latency().quantile(0.5)).toBe(0);
  });
});

describe('gaps between arrivals', () => {
  it('are kept longest first, with the time when they began', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 40 }), (pauses) => {
        const gaps = new Gaps(4);
        let now = 0;
        gaps.arrived(now);
        for (const pause of pauses) {
          now += pause;
          gaps.arrived(now);
        }
        const expected = [...pauses].sort((a, b) => b - a).slice(0, 4);
        expect(gaps.longest.map(({ nanos }) => nanos)).toEqual(expected);
        for (const { atNanos, nanos } of gaps.longest) {
          const starts = pauses.map((_, i) => pauses.slice(0, i).reduce((a, b) => a + b, 0));
          expect(starts.some((start, i) => start === atNanos && pauses[i] === nanos)).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });
});
