/** What a handler module imports: `import { TX, type Handler } from 'twinpath/handler'`. */
export { Burst } from './datapath/burst.ts';
export {
  checksum,
  icmpChecksum,
  ipv4Checksum,
  sum,
  sumOf,
  udpChecksum,
  update16,
  update32,
} from './datapath/checksum.ts';
export type { Handler, HandlerContext, HandlerModule, TickingHandler } from './datapath/handler.ts';
export { Packet } from './datapath/packet.ts';
export { DELIVER, DROP, FORWARD, PASS, TX, type Verdict } from './datapath/verdict.ts';
export { Path } from './memory/layout.ts';
export { ETHERNET_BYTES, EtherType } from './net/ethernet.ts';
export { Protocol } from './net/ip.ts';
