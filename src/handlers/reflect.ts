/**
 * Sends every packet back where it came from, with the MAC addresses exchanged.
 *
 * For measuring the path: it answers anything, so two reflecting ports play for ever. Copy from it:
 * the loop over a burst, a packet changed in place, a verdict set.
 *
 * ```ts
 * import { type Handler, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../datapath/handler.ts';
import { TX } from '../datapath/verdict.ts';

const reflect: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) {
    burst.packet(i).swapMacs();
    burst.verdict[i] = TX;
  }
};
export default reflect;
