/**
 * Sends every packet back to its sender, with the MAC addresses exchanged. It has no options.
 *
 * Use it to measure a path in one Ethernet. It does not exchange IP addresses: see `5tswap` for networks that forward by
 * them. NB: it answers all packets, so two such ports exchange a packet without end.
 *
 * Copy from it: the loop over a burst, a packet changed in place, a verdict. It is the fastest form of a handler, with the
 * burst and the verdict as constants: V8 loads and checks an imported value with each use.
 *
 * ```ts
 * import { type Handler, type HandlerContext, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler, HandlerContext } from '../handler/handler.ts';
import { TX } from '../handler/handler.ts';

export function create(_options: Record<string, unknown>, { burst }: HandlerContext): Handler {
  const sent = TX;
  return () => {
    for (let i = 0; i < burst.length; i++) {
      burst.packet(i).swapMacs();
      burst.verdict[i] = sent;
    }
  };
}
