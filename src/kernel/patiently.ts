/**
 * Asks the kernel again for what it refuses for a moment: it keeps the queues of an AF_XDP socket after that was closed, until
 * a work item has run (xp_put_pool, net/xdp/xsk_buff_pool.c). Any thread that may wait: it sleeps.
 */
import { Errno } from '../errors.ts';

/** How long it is asked. */
const MAX_MILLIS = 250;

/** @returns what `ask` returned last: something else than one of `passing`, unless time is up */
export function patiently(
  ask: () => number,
  passing: readonly number[] = [Errno.EINVAL, Errno.EBUSY],
): number {
  const never = new Int32Array(new SharedArrayBuffer(4));
  for (let millis = 0; ; millis++) {
    const result = ask();
    if (!passing.includes(result) || millis === MAX_MILLIS) return result;
    Atomics.wait(never, 0, 0, 1);
  }
}
