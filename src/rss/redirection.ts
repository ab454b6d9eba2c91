/**
 * The redirection table: which queue a hash belongs to. The coordinator makes it, workers read it.
 *
 * Pure functions; any thread. The table has {@link RETA_ENTRIES} entries, one byte each: a queue number.
 */
import { RETA_ENTRIES } from '../memory/geometry.ts';

/** The entry of a hash: its low bits (Microsoft, "RSS Hashing Functions"). */
export function retaIndex(hash: number): number {
  return hash & (RETA_ENTRIES - 1);
}

/**
 * The default table: entry i is the i-th of the active queues, over and over, as the kernel's
 * `ethtool_rxfh_indir_default` has it.
 *
 * @param queues distinct queue numbers, 0 to 255
 * @throws RangeError without queues
 */
export function spread(queues: readonly number[]): Uint8Array {
  if (queues.length === 0) throw new RangeError('a redirection table needs a queue');
  return Uint8Array.from({ length: RETA_ENTRIES }, (_, i) => queues[i % queues.length]!);
}

/**
 * The table for another set of queues: a new one, in which the counts of any two queues differ by one at
 * most and as few entries as possible have changed, because each one that changes moves flows.
 *
 * @param queues distinct queue numbers, 0 to 255
 * @throws RangeError without queues
 */
export function respread(table: Uint8Array, queues: readonly number[]): Uint8Array {
  if (queues.length === 0) throw new RangeError('a redirection table needs a queue');
  const share = Math.floor(table.length / queues.length);
  let larger = table.length % queues.length;

  // The odd entries go to those that have them already; what is left of them, to the first queues.
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
  const homeless: number[] = [];
  table.forEach((queue, entry) => {
    const left = wanted.get(queue) ?? 0;
    if (left > 0) wanted.set(queue, left - 1);
    else homeless.push(entry);
  });
  // In turns, so that neighbours among the entries do not all go to one queue.
  while (homeless.length > 0) {
    for (const queue of queues) {
      const left = wanted.get(queue)!;
      if (left === 0) continue;
      wanted.set(queue, left - 1);
      result[homeless.shift()!] = queue;
    }
  }
  return result;
}
