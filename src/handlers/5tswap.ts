/**
 * Sends every IP packet back to its sender, with source and destination exchanged on three layers: MAC addresses, IP
 * addresses, and the ports of TCP and UDP. DPDK's `testpmd` has a forwarding mode of that name.
 *
 * Use it to measure a path in a network that forwards by IP address, such as a virtual network of Azure, where packets of
 * `reflect` reach no receiver.
 *
 * - Checksums stay correct: each covers both exchanged fields in 16-bit words, and a sum does not depend on their order.
 * - The option `otherwise` decides about packets to group addresses and packets that are not IP.
 * - IP packets whose lengths contradict each other are dropped.
 * - Packets of the machine itself (`host: 'inline'`) go out unchanged.
 *
 * NB: it answers all packets, so two such ports exchange a packet without end.
 *
 * Copy from it: reading a packet's flow once, and changing the fields in place.
 *
 * ```ts
 * import { DROP, EtherType, Flow, type HandlerObject, type Packet, Path, TX } from 'twinpath/handler';
 * ```
 */
import type { HandlerObject } from '../handler/handler.ts';
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { Path } from '../memory/layout.ts';
import { EtherType } from '../net/ethernet.ts';
import { Flow, int32At } from '../net/flow.ts';
import { checkNames, otherwiseOf } from './options.ts';

/**
 * @param options `otherwise`: 'pass' (default) or 'drop' packets that are not unicast IP
 * @throws TwinpathError ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID
 */
export function create(options: Record<string, unknown>): HandlerObject {
  let otherwise = checked(options);
  const flow = new Flow();
  return {
    handle: (burst) => {
      const other = otherwise;
      for (let i = 0; i < burst.length; i++) {
        burst.verdict[i] = burst.path[i] === Path.HOST ? TX : sendBack(burst.packet(i), flow, other);
      }
    },
    configure: (changed) => {
      const next = checked(changed);
      return () => {
        otherwise = next;
      };
    },
  };
}

function checked(options: Record<string, unknown>): Verdict {
  checkNames('5tswap', options, ['otherwise']);
  return otherwiseOf(options, 'pass');
}

function sendBack(packet: Packet, flow: Flow, otherwise: Verdict): Verdict {
  const isIntact = flow.read(packet);
  if (!isIntact) return flow.type === EtherType.IPV4 || flow.type === EtherType.IPV6 ? DROP : otherwise;
  if (packet.isGroup) return otherwise;
  const { addresses, addressBytes, l4, from, to } = flow;
  for (let at = addresses; at < addresses + addressBytes; at += 4) {
    const source = int32At(packet, at);
    packet.setU32(at, int32At(packet, at + addressBytes));
    packet.setU32(at + addressBytes, source);
  }
  if (from >= 0) {
    packet.setU16(l4, to);
    packet.setU16(l4 + 2, from);
  }
  packet.swapMacs();
  return TX;
}
