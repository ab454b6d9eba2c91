/**
 * A handler that keeps packets circulating: over a veth pair whose two ends are two ports, and over paths that hand back what they
 * are sent (network 'loop').
 *
 * It sends everything back with the MAC addresses exchanged, as reflect does, so what it has sent once goes back and forth for
 * ever: a queue needs one core and no other thread. The packets are UDP over IPv4, of flows that the default key and table give to
 * the queue they start on: no packet is handed over.
 */
import type { HandlerContext, TickingHandler } from '../../src/handler/handler.ts';
import { TX } from '../../src/handler/handler.ts';
import type { Packet } from '../../src/handler/packet.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { retaIndex, spread } from '../../src/rss/redirection.ts';
import { RssHash } from '../../src/rss/toeplitz.ts';

const BYTES = 60;
/** Of a queue; a power of two. */
const FLOWS = 64;

/** @param options `loaded`: queues 0 to loaded−1 have packets. `packets`: of each. */
export function create(options: Record<string, unknown>, context: HandlerContext): TickingHandler {
  const { loaded, packets } = options as { loaded: number; packets: number };
  const sourcePorts = flowsOf(context);
  let wanted = context.queue < loaded ? packets : 0;
  let circulates = false;
  let flow = 0;
  const fill = (packet: Packet): void => {
    for (let at = 0; at < BYTES; at += 4) packet.setU32(at, 0);
    writeHeaders((offset, value) => packet.setU32(offset, value), sourcePorts[flow++ & (FLOWS - 1)]!);
  };
  return {
    tickMillis: 5,
    tick(burst, port) {
      if (port !== 0 || wanted === 0) return;
      // Until the first packet comes back the ports may not have their VFs yet, and what they send is lost.
      if (!circulates) burst.send(BYTES, fill);
      else while (wanted > 0 && burst.send(BYTES, fill)) wanted--;
    },
    handle(burst) {
      circulates = true;
      for (let i = 0; i < burst.length; i++) {
        burst.packet(i).swapMacs();
        burst.verdict[i] = TX;
      }
    },
  };
}

/** Source ports that belong to this queue. */
function flowsOf({ queue, queues }: HandlerContext): number[] {
  const table = spread(Array.from({ length: queues }, (_, i) => i));
  const view = new DataView(new SharedArrayBuffer(64));
  const hash = new RssHash(view, DEFAULT_KEY);
  const found: number[] = [];
  for (let port = 1024; found.length < FLOWS; port++) {
    writeHeaders((offset, value) => view.setUint32(offset, value), port);
    if (table[retaIndex(hash.of(0, BYTES))] === queue) found.push(port);
  }
  return found;
}

/** From the EtherType on; the MAC addresses stay as they are. */
function writeHeaders(set: (offset: number, value: number) => void, port: number): void {
  set(12, 0x0800_4500);
  set(16, (BYTES - 14) << 16);
  set(20, 0x0000_4011);
  set(24, 0x0000_0a00); // nothing here checks the checksum
  set(28, 0x0001_0a00);
  set(32, (0x0002 << 16) | port);
  set(36, (7 << 16) | (BYTES - 34));
}
