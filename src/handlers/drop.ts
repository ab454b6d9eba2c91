/**
 * Drops all packets: the port counts them and transmits nothing.
 *
 * Use it to measure the cost of receiving. Every verdict of a burst is DROP at first, so the handler has nothing to set.
 * Copy from it: the smallest handler module.
 *
 * ```ts
 * import type { Handler } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../handler/handler.ts';

const drop: Handler = () => {};
export default drop;
