/** wasm/perf/checksum.ts in TypeScript: one hop fewer to live, and the checksum brought up to date. */
import { update16 } from '../../src/handler/checksum.ts';
import type { Handler, HandlerContext } from '../../src/handler/handler.ts';
import { TX } from '../../src/handler/verdict.ts';

export function create(_options: Record<string, unknown>, { burst }: HandlerContext): Handler {
  const sent = TX;
  return () => {
    for (let i = 0; i < burst.length; i++) {
      const packet = burst.packet(i);
      if (packet.length < 34) continue;
      const before = packet.u16(22);
      const after = (before - 0x100) & 0xffff;
      packet.setU16(22, after);
      packet.setU16(24, update16(packet.u16(24), before, after));
      burst.verdict[i] = sent;
    }
  };
}
