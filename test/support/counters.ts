/** The counters of a port, to see that none falls. */
import type { PortStatistics } from '../../dist/src/statistics.js';
import type { Port } from './harness.ts';

/** Every number of the statistics, by its place in them. */
function numbers(value: unknown, place = ''): [place: string, value: number][] {
  if (typeof value === 'number') return [[place, value]];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => numbers(inner, `${place}.${name}`));
}

/** What is a state and not a count. */
const STATES = /\.(queue|owner|epoch)$|Nanos$|Micros$/;

function counters(stats: PortStatistics): Map<string, number> {
  return new Map(numbers(stats).filter(([place]) => !STATES.test(place)));
}

/** Watches a port's counters: {@link look} compares them with those of the last look. */
export class CounterWatch {
  /** What fell, and when. */
  readonly fallen: string[] = [];
  readonly #port: Port;
  #before: Map<string, number>;

  constructor(port: Port) {
    this.#port = port;
    this.#before = counters(port.stats());
  }

  look(when: string): void {
    const now = counters(this.#port.stats());
    for (const [place, value] of this.#before) {
      if ((now.get(place) ?? -1) < value) this.fallen.push(`${when}: ${place} fell to ${now.get(place)}`);
    }
    this.#before = now;
  }
}
