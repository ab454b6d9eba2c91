/** wasm/perf/verdict.ts in TypeScript: every packet goes back as it came. */
import type { Handler, HandlerContext } from '../../src/handler/handler.ts';
import { TX } from '../../src/handler/verdict.ts';

export function create(_options: Record<string, unknown>, { burst }: HandlerContext): Handler {
  const sent = TX;
  return () => {
    for (let i = 0; i < burst.length; i++) burst.verdict[i] = sent;
  };
}
