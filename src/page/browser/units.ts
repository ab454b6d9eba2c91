/** Numbers and times for people. Pure. */

const PREFIXES = [
  ['G', 1e9],
  ['M', 1e6],
  ['k', 1e3],
] as const;

export type RateUnit = 'pps' | 'bit/s';

/** A rate with three digits: '1.25 Mpps', '850 pps', '17.0 Mbit/s'. */
export function rateText(value: number, unit: RateUnit): string {
  for (const [prefix, size] of PREFIXES) {
    // What rounds to a thousand of a unit is one of the next.
    if (value >= 0.9995 * size) return `${(value / size).toPrecision(3)} ${prefix}${unit}`;
  }
  return `${Math.round(value)} ${unit}`;
}

/** A number of an axis: as {@link rateText} without zeros that say nothing. */
export function axisText(value: number, unit: RateUnit): string {
  const [prefix, size] = PREFIXES.find(([, least]) => value >= least) ?? ['', 1];
  return `${Number((value / size).toPrecision(3))} ${prefix}${unit}`;
}

export const countText = (value: number): string => Math.round(value).toLocaleString('en');

/** A number with three digits and a unit of thousands, for tables: '15.1 k'. */
export function shortText(value: number): string {
  for (const [prefix, size] of PREFIXES) {
    if (value >= 0.9995 * size) return `${(value / size).toPrecision(3)} ${prefix}`;
  }
  return value >= 99.5 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(2);
}

/** A duration in microseconds, from a second on in seconds: '412.3 µs', '3,204 µs', '1.204 s'. */
export function microsText(nanos: number): string {
  const micros = nanos / 1000;
  if (micros >= 999_999.5) return `${(micros / 1e6).toFixed(3)} s`;
  const digits = micros < 999.95 ? 1 : 0;
  return `${micros.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })} µs`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** A time of day here: '21:04:10'. @param millis since 1970 */
export function clockText(millis: number): string {
  const date = new Date(millis);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The same to the microsecond: '21:04:10.123456'. */
export function clockMicrosText(millis: number): string {
  const micros = Math.round(millis * 1000);
  const whole = Math.floor(micros / 1e6);
  return `${clockText(whole * 1000)}.${String(micros - whole * 1e6).padStart(6, '0')}`;
}

export function agoText(seconds: number): string {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s ago`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

/** '10 Gbit/s', '2.5 Gbit/s', '100 Mbit/s'. */
export function speedText(mbps: number): string {
  return mbps >= 1000 ? `${mbps / 1000} Gbit/s` : `${mbps} Mbit/s`;
}
