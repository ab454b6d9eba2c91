/** Numbers and times as the live page writes them. */
import { expect, it } from 'vitest';
import {
  agoText,
  axisText,
  clockMicrosText,
  clockText,
  microsText,
  rateText,
  shortText,
  speedText,
} from '../../../src/page/browser/units.ts';

it.each([
  [0, 'pps', '0 pps'],
  [850.4, 'pps', '850 pps'],
  [999.6, 'pps', '1.00 kpps'],
  [1_250_000, 'pps', '1.25 Mpps'],
  [999_949_999, 'bit/s', '1.00 Gbit/s'],
  [17_040_000, 'bit/s', '17.0 Mbit/s'],
] as const)('a rate of %d %s is written as %s', (value, unit, text) => {
  expect(rateText(value, unit)).toBe(text);
});

it('an axis has no zeros that say nothing, and tables have short numbers', () => {
  expect([0, 500, 20_000, 1.5e6].map((value) => axisText(value, 'pps'))).toEqual([
    ...['0 pps', '500 pps', '20 kpps', '1.5 Mpps'],
  ]);
  expect([0, 0.126, 99.6, 9936, 12e6].map(shortText)).toEqual(['0', '0.13', '100', '9.94 k', '12.0 M']);
});

it.each([
  [0, '0.0 µs'],
  [412_340, '412.3 µs'],
  [999_960, '1,000 µs'],
  [3_204_400, '3,204 µs'],
  [999_999_400, '999,999 µs'],
  [1_204_000_000, '1.204 s'],
])('%d ns is written as %s', (nanos, text) => {
  expect(microsText(nanos)).toBe(text);
});

it('a time of day is that of the place, to the microsecond where a failover is told', () => {
  const at = new Date(2026, 0, 2, 3, 4, 5).getTime();
  expect(clockText(at)).toBe('03:04:05');
  expect(clockMicrosText(at + 7.0625)).toBe('03:04:05.007063');
  expect(clockMicrosText(at + 999.9996)).toBe('03:04:06.000000');
});

it('what is past is told in the unit that fits, and a speed in that of its card', () => {
  expect([-1, 59.6, 300, 8000].map(agoText)).toEqual(['0 s ago', '60 s ago', '5 min ago', '2 h ago']);
  expect([100, 2500, 10_000].map(speedText)).toEqual(['100 Mbit/s', '2.5 Gbit/s', '10 Gbit/s']);
});
