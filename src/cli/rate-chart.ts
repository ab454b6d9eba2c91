/** A rate over time, sampled by whoever watches it, as a row of bars with the paths under it. Pure. */

/** What happened between one look and the next. */
export interface RateSample {
  readonly millis: number;
  readonly bytes: number;
  /** The path by which most of it came; none when nothing did. */
  readonly path: 'vf' | 'synthetic' | 'none';
}

export interface Chart {
  /** One character a column, the highest column a full bar. */
  readonly bars: string;
  /** Of the same length: {@link PATH_MARKS}. */
  readonly marks: string;
  /** Of the highest column. */
  readonly highest: number;
}

export const PATH_MARKS = { vf: '═', synthetic: '─', none: ' ' } as const;
/** The first for nothing at all: the least that arrived is seen. */
const BARS = [...' ▁▂▃▄▅▆▇█'];

/** Draws the samples it is given, each a column; more than `columns` of them are put together by twos, threes … */
export function rateChart(samples: readonly RateSample[], columns: number): Chart {
  const each = Math.max(1, Math.ceil(samples.length / columns));
  const merged = Array.from({ length: Math.ceil(samples.length / each) }, (_, i) =>
    merge(samples.slice(i * each, (i + 1) * each)),
  );
  const rates = merged.map(gbitPerSecond);
  const highest = Math.max(0, ...rates);
  return {
    bars: rates
      .map((rate) => BARS[highest === 0 ? 0 : Math.ceil((rate / highest) * (BARS.length - 1))])
      .join(''),
    marks: merged.map(({ path }) => PATH_MARKS[path]).join(''),
    highest,
  };
}

export function gbitPerSecond({ bytes, millis }: Pick<RateSample, 'bytes' | 'millis'>): number {
  return millis > 0 ? (bytes * 8) / millis / 1e6 : 0;
}

function merge(samples: readonly RateSample[]): RateSample {
  const carried = (path: RateSample['path']): number =>
    samples.reduce((sum, sample) => sum + (sample.path === path ? sample.bytes : 0), 0);
  const [vf, synthetic] = [carried('vf'), carried('synthetic')];
  return {
    millis: samples.reduce((sum, { millis }) => sum + millis, 0),
    bytes: samples.reduce((sum, { bytes }) => sum + bytes, 0),
    path: vf + synthetic === 0 ? 'none' : vf > synthetic ? 'vf' : 'synthetic',
  };
}
