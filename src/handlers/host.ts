/**
 * Lets the machine's own network stack use the port as if Twinpath were not there: it passes received packets to the stack
 * and transmits the packets of the stack.
 *
 * A handler gets packets of the stack only with `host: 'inline'`. Copy from it: the frame of a handler that serves a few
 * packets and leaves the others to the machine.
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
