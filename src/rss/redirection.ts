/**
 * The redirection table: the queue of each hash. The coordinator writes it, workers read it.
 *
 * Pure functions; any thread. The table has {@link RETA_ENTRIES} entries, one byte each: a queue number.
 */
import { RETA_ENTRIES } from '../memory/geometry.ts';

/** Index of a hash's entry: its low bits (Microsoft, "RSS Hashing Functions"). */
export function retaIndex(hash: number): number {
  return hash & (RETA_ENTRIES - 1);
}

/**
 * The default table: its entries repeat the active queues in turn, as the kernel's `ethtool_rxfh_indir_default` does.
 *
 * @param queues distinct queue numbers, 0 to 255
 * @throws RangeError without queues
 */
export function spread(queues: readonly number[]): Uint8Array {
  if (queues.length === 0) throw new RangeError('a redirection table needs a queue');
  return Uint8Array.from({ length: RETA_ENTRIES }, (_, i) => queues[i % queues.length]!);
}

/** What a table is made of. */
export interface TableSources {
  /** The table that was asked for; null: all queues in turn. */
  readonly table: readonly number[] | null;
  /** The queues that flows are to be spread over; null: all. */
  readonly active: readonly number[] | null;
  /** All queues of the port. */
  readonly queues: number;
  /** Whether a worker with the handler serves the queue. */
  readonly serves: (queue: number) => boolean;
}

/**
 * The table in force. It depends on nothing but its sources, so a queue that comes back gets the flows that it had.
 *
 * - Flows go to the active queues that are served; if there are none, to any that are; if there are none, as if all were.
 * - A table that was asked for keeps its entries for those queues. The other entries go, in turn, to those queues that it
 *   names, or to all of them if it names none.
 * - The default table is {@link respread}: the counts of two queues differ by at most one.
 */
export function tableFrom({ table, active, queues, serves }: TableSources): Uint8Array {
  const all = Array.from({ length: queues }, (_, queue) => queue);
  const asked = active ?? all;
  const candidates = [asked.filter(serves), all.filter(serves), asked];
  const chosen = candidates.find(({ length }) => length > 0)!;
  if (table === null) return respread(spread(all), chosen);
  const named = chosen.filter((queue) => table.includes(queue));
  const heirs = named.length > 0 ? named : chosen;
  let turn = 0;
  return Uint8Array.from(table, (queue) => (chosen.includes(queue) ? queue : heirs[turn++ % heirs.length]!));
}

/**
 * The table for another set of queues. The entry counts of two queues differ by at most one, and as few entries as possible
 * change, because each change moves flows.
 *
 * @param queues distinct queue numbers, 0 to 255
 * @throws RangeError without queues
 */
export function respread(table: Uint8Array, queues: readonly number[]): Uint8Array {
  if (queues.length === 0) throw new RangeError('a redirection table needs a queue');
  const share = Math.floor(table.length / queues.length);
  let larger = table.length % queues.length;

  // A queue keeps an entry above its share if it has one already; the remaining ones go to the first queues.
  const wanted = new Map<number, number>();
  for (const queue of queues) {
    const more = larger > 0 && table.reduce((count, entry) => count + Number(entry === queue), 0) > share;
    if (more) larger--;
    wanted.set(queue, more ? share + 1 : share);
  }
  for (const queue of queues) {
    if (larger === 0) break;
    if (wanted.get(queue) !== share) continue;
    wanted.set(queue, share + 1);
    larger--;
  }

  const result = table.slice();
  const unassigned: number[] = [];
  table.forEach((queue, entry) => {
    const left = wanted.get(queue) ?? 0;
    if (left > 0) wanted.set(queue, left - 1);
    else unassigned.push(entry);
  });
  // Round robin, so that neighbouring entries do not all go to one queue.
  while (unassigned.length > 0) {
    for (const queue of queues) {
      const left = wanted.get(queue)!;
      if (left === 0) continue;
      wanted.set(queue, left - 1);
      result[unassigned.shift()!] = queue;
    }
  }
  return result;
}
