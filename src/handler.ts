/** The interface for handler modules: `import { TX, type Handler } from 'twinpath/handler'`. */
export { Burst } from './handler/burst.ts';
export {
  checksum,
  icmpChecksum,
  ipv4Checksum,
  sum,
  sumOf,
  udpChecksum,
  update16,
  update32,
} from './handler/checksum.ts';
export { Clock } from './handler/clock.ts';
export type {
  Handler,
  HandlerContext,
  HandlerModule,
  HandlerObject,
  TickingHandler,
} from './handler/handler.ts';
export { DELIVER, DROP, FORWARD, PASS, TEE, TX, type Verdict } from './handler/handler.ts';
export { Packet } from './handler/packet.ts';
export { Path } from './memory/layout.ts';
export type { MetadataName } from './memory/metadata.ts';
export { CHECKSUM_UNFINISHED, offloadWord, Segmentation } from './memory/offload.ts';
export { ETHERNET_BYTES, EtherType } from './net/ethernet.ts';
export { Flow, type PacketBytes } from './net/flow.ts';
export { Protocol } from './net/ip.ts';
