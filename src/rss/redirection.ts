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
