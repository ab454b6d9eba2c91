import { describe, expect, it } from 'vitest';
import { figures, parse } from '../../../perf/rigs/iperf.ts';

/** The parts of a report of iperf3 3.12 that are used, as it prints them. */
const report = (change: object = {}): string =>
  JSON.stringify({
    start: { version: 'iperf 3.12' },
    intervals: [
      { streams: [], sum: { start: 0, end: 0.1, seconds: 0.1, bytes: 62_500_000, bits_per_second: 5e9 } },
      { streams: [], sum: { start: 0.1, end: 0.2, seconds: 0.1, bytes: 25_000_000, bits_per_second: 2e9 } },
    ],
    end: {
      sum_sent: { bytes: 90_000_000, bits_per_second: 3.6e9, retransmits: 12 },
      sum_received: { bytes: 87_500_000, bits_per_second: 3.5e9 },
    },
    ...change,
  });

describe('what iperf3 says of a stream', () => {
  it('is the rate that the receiver saw, and what the sender sent again', () => {
    const received = report({ end: { sum_sent: {}, sum_received: { bits_per_second: 3.5e9 } } });
    const sent = report({
      intervals: [],
      end: { sum_sent: { retransmits: 12 }, sum_received: { bits_per_second: 9e9 } },
    });
    expect(figures(parse(received), parse(sent))).toEqual({
      gigabits: 3.5,
      retransmissions: 12,
      tenths: [5, 2],
    });
  });

  it('has no retransmissions where the kernel tells none', () => {
    const sent = report({ end: { sum_sent: {}, sum_received: { bits_per_second: 1 } } });
    expect(figures(parse(report()), parse(sent)).retransmissions).toBe(0);
  });

  it.each([
    ['a complaint', JSON.stringify({ error: 'unable to connect to server' }), /unable to connect/],
    ['nothing', '', /printed no report: ""/],
    ['half a report', report().slice(0, 60), /printed no report/],
  ])('is an error when it is %s', (_, text, message) => {
    expect(() => parse(text)).toThrow(message);
  });
});
