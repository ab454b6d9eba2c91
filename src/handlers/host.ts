/**
 * Lets the machine's own network stack use the port as if Twinpath were not there: what arrives goes to
 * the stack, what the stack sends goes out.
 *
 * Packets of the stack come to a handler with `host: 'inline'` only. Copy from it: the frame of a handler
 * that takes a few packets for itself and leaves the machine the rest.
 *
 * ```ts
 * import { type Handler, PASS, Path, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../handler/handler.ts';
import { PASS, TX } from '../handler/handler.ts';
import { Path } from '../memory/layout.ts';

const host: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) burst.verdict[i] = burst.path[i] === Path.HOST ? TX : PASS;
};
export default host;
