/**
 * Sends every IP packet back to its sender, with source and destination exchanged on three layers: MAC addresses, IP
 * addresses, and the ports of TCP and UDP. As `testpmd`'s forwarding mode of that name in DPDK.
 *
 * For measuring a path where forwarding is by IP address, as in a virtual network of Azure: what `reflect` sends there
 * goes to nobody. It answers anything, so two such ports play for ever. No checksum is touched: each covers both of what
 * changes places, in 16-bit words, and a sum has no order. What comes to a group, and what is no IP, is left to
 * `otherwise`; what the machine sends (inline) goes out as it is. IP that contradicts itself is dropped.
 *
 * Copy from it: reading a packet's flow once, and changing what it found in place.
 *
 * ```ts
 * import { DROP, EtherType, type Handler, type Packet, Path, TX } from 'twinpath/handler';
 * ```
 */
import type { Handler } from '../handler/handler.ts';
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { EtherType } from '../net/ethernet.ts';
import { Flow, word } from '../net/flow.ts';
import { onlyKnown, otherwiseOf } from './options.ts';

/**
 * @param options `otherwise`: what becomes of packets that are no unicast IP, 'pass' (default) or 'drop'
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>): Handler {
  onlyKnown('5tswap', options, ['otherwise']);
  const otherwise = otherwiseOf(options, 'pass');
  const flow = new Flow();
  return (burst) => {
    for (let i = 0; i < burst.length; i++) {
      burst.verdict[i] = burst.path[i] === Path.HOST ? TX : sendBack(burst.packet(i), flow, otherwise);
    }
  };
}

function sendBack(packet: Packet, flow: Flow, otherwise: Verdict): Verdict {
  const isIntact = flow.read(packet);
  if (!isIntact) return flow.type === EtherType.IPV4 || flow.type === EtherType.IPV6 ? DROP : otherwise;
  if (packet.isGroup) return otherwise;
  const { addresses, addressBytes, l4, from, to } = flow;
  for (let at = addresses; at < addresses + addressBytes; at += 4) {
    const source = word(packet, at);
    packet.setU32(at, word(packet, at + addressBytes));
    packet.setU32(at + addressBytes, source);
  }
  if (from >= 0) {
    packet.setU16(l4, to);
    packet.setU16(l4 + 2, from);
  }
  packet.swapMacs();
  return TX;
}
