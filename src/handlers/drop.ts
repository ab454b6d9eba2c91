/**
 * Drops everything: what a port receives is counted, and nothing leaves.
 *
 * For measuring what receiving alone costs. The burst comes with every verdict at DROP, so there is
 * nothing to set. Copy from it: the smallest module that is a handler.
 *
 * ```ts
 * import type { Handler } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../handler/handler.ts';

const drop: Handler = () => {};
export default drop;
