/** wasm/perf/header.ts in TypeScript: IPv4 goes back. */
import type { Handler, HandlerContext } from '../../src/handler/handler.ts';
import { TX } from '../../src/handler/verdict.ts';
import { EtherType } from '../../src/net/ethernet.ts';

export function create(_options: Record<string, unknown>, { burst }: HandlerContext): Handler {
  const sent = TX;
  return () => {
    for (let i = 0; i < burst.length; i++) {
      const packet = burst.packet(i);
      if (packet.length < 34) continue;
      if (packet.u16(12) === EtherType.IPV4 && packet.u8(14) >> 4 === 4) burst.verdict[i] = sent;
    }
  };
}
