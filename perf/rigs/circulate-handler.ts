/**
 * A handler that keeps packets circulating, on the memory path, and over a veth pair whose two ends are two ports.
 *
 * It sends everything back with the MAC addresses exchanged, as reflect does, so over a veth pair what it has sent once goes
 * back and forth for ever. On the memory path it also stands for the network of its own queue, between two bursts: it takes
 * what was sent and delivers as much. So a queue needs one core and no other thread.
 *
 * The packets are UDP over IPv4, of flows that the default key and table give to the queue they start on: no packet is
 * handed over.
 */
import type { Burst } from '../../src/handler/burst.ts';
import type { HandlerContext, TickingHandler } from '../../src/handler/handler.ts';
import { TX } from '../../src/handler/handler.ts';
import type { Packet } from '../../src/handler/packet.ts';
import type { Geometry } from '../../src/memory/geometry.ts';
import { BURST, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { retaIndex, spread } from '../../src/rss/redirection.ts';
import { RssHash } from '../../src/rss/toeplitz.ts';

const BYTES = 60;
/** Of a queue; a power of two. */
const FLOWS = 64;

/** @param options `loaded`: queues 0 to loaded−1 have packets. `packets`: of each. `geometry`: memory path only. */
export function create(options: Record<string, unknown>, context: HandlerContext): TickingHandler {
  const { loaded, packets, geometry } = options as { loaded: number; packets: number; geometry?: Geometry };
  const { queue } = context;
  const sourcePorts = flowsOf(context);
  let wanted = queue < loaded ? packets : 0;
  let circulates = false;
  let peer: MemoryPeer | undefined;
  let view: DataView;
  let flow = 0;

  const discard = (): void => {};
  const first = (at: number): number => {
    writeHeaders((offset, value) => view.setUint32(at + offset, value), sourcePorts[flow++ & (FLOWS - 1)]!);
    return BYTES;
  };
  /** The memory is that of the burst's arrays. */
  const attach = (burst: Burst, geometry: Geometry): void => {
    const memory = Memory.attach({ memory: { buffer: burst.offset.buffer }, geometry });
    view = memory.view;
    peer = MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC);
  };

  /** The network of this queue: what was sent is received. */
  const carry = (): void => {
    if (peer !== undefined) peer.deliver(peer.collect(BURST, discard), first);
  };

  return {
    tickMillis: 5,
    tick(burst, port) {
      if (port !== 0) return;
      if (geometry === undefined) {
        if (wanted === 0) return;
        const fill = (packet: Packet): void => {
          for (let at = 0; at < BYTES; at += 4) packet.setU32(at, 0);
          writeHeaders((offset, value) => packet.setU32(offset, value), sourcePorts[flow++ & (FLOWS - 1)]!);
        };
        // Until the first packet comes back the ports may not have their VFs yet, and what they send is lost.
        if (!circulates) burst.send(BYTES, fill);
        else while (wanted > 0 && burst.send(BYTES, fill)) wanted--;
      } else {
        if (wanted > 0 && peer === undefined) attach(burst, geometry);
        // Each frame must have been a packet with these headers once: frames are used in turn.
        if (wanted > 0) wanted -= peer?.deliver(wanted, first) ?? 0;
        carry(); // otherwise no packet is received, and no burst would come that carries more
      }
    },
    handle(burst) {
      circulates = true;
      for (let i = 0; i < burst.length; i++) {
        burst.packet(i).swapMacs();
        burst.verdict[i] = TX;
      }
      carry();
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
