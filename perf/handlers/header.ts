/** wasm/perf/header.ts in TypeScript: IPv4 goes back. */
import type { Handler } from '../../src/datapath/handler.ts';
import { EtherType } from '../../src/datapath/packet.ts';
import { TX } from '../../src/datapath/verdict.ts';

const header: Handler = (burst) => {
  for (let i = 0; i < burst.length; i++) {
    const packet = burst.packet(i);
    if (packet.length < 34) continue;
    if (packet.u16(12) === EtherType.IPV4 && packet.u8(14) >> 4 === 4) burst.verdict[i] = TX;
  }
};
export default header;
