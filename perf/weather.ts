/** What the machine did meanwhile: how much of its time went to others. */
import { readFileSync } from 'node:fs';

export interface Weather {
  /** USER_HZ of all CPUs together since boot. */
  readonly total: number;
  /** Of these, what the hypervisor gave to other guests (proc(5), /proc/stat, `steal`). */
  readonly stolen: number;
}

export function weather(stat: string = readFileSync('/proc/stat', 'utf8')): Weather {
  const line = stat.split('\n', 1)[0]!;
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { total: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks[7] ?? 0 };
}

/** Share of the machine's time, 0 to 1, that the hypervisor gave away between two looks. */
export function stolenShare(before: Weather, after: Weather): number {
  const total = after.total - before.total;
  return total > 0 ? (after.stolen - before.stolen) / total : 0;
}
