/**
 * `balance` by VXLAN (`mode: 'vxlan'`): direct return in networks that forward by IP address. A client's packet goes on to a backend in
 * a VXLAN tunnel, otherwise unchanged, so the backend sees the client's address and replies to the client itself.
 *
 * - No state: the Maglev table alone names the backend, as with direct return.
 * - A backend has a VXLAN device with the VNI and the MAC address that the option names, and the virtual address on its loopback. On
 *   Linux, `rp_filter` must be off for that device, since the reply does not go through it.
 * - The tunnel's packets go back to where the client's packet came from: to a router.
 * - A packet is 50 bytes longer in the tunnel. One that is too long then is dropped (`dropped.tooLong`).
 */
import { DROP, TX, type Verdict } from '../handler/handler.ts';
import type { Packet } from '../handler/packet.ts';
import { IPV4_BYTES, writeIpv4 } from '../headers/ip.ts';
import { UDP_BYTES, writeUdp } from '../headers/transport.ts';
import { VXLAN_BYTES, VXLAN_PORT, writeVxlan } from '../headers/vxlan.ts';
import { hostAddresses } from '../net/addresses.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { type Flow, int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { invalid, wholeNumber } from '../validation.ts';
import { ipBackends } from './balance-options.ts';
import { MAX_BACKENDS, maglevTable } from './maglev.ts';
import { list } from './options.ts';
import type { VirtualService } from './virtual-service.ts';

const IP = ETHERNET_BYTES;
const L4 = IP + IPV4_BYTES;
const VXLAN = L4 + UDP_BYTES;
const OUTER = VXLAN + VXLAN_BYTES;
const { IPV4 } = EtherType;
const { UDP } = Protocol;
/** The first of the ports that RFC 7348 recommends as source; the slot is added, so that networks spread the flows. */
const FIRST_SOURCE_PORT = 0xc000;

export class Tunnel {
  readonly #service: VirtualService;
  readonly #source: number;
  readonly #vni: number;
  readonly #port: number;
  readonly #addresses: Int32Array;
  readonly #macs: readonly Uint8Array[];
  readonly #table: Uint16Array;

  /**
   * @param options see `create` in balance.ts
   * @throws TwinpathError ERR_OPTION_INVALID
   */
  constructor(options: Record<string, unknown>, vips: Int32Array, service: VirtualService) {
    const sources = options.source === undefined ? vips : hostAddresses('source', list(options.source));
    if (options.source !== undefined && sources.length !== 1) invalid('source', 'it must be one address');
    const backends = ipBackends(options.backends, MAX_BACKENDS, Int32Array.of(...vips, ...sources));
    this.#service = service;
    this.#source = sources[0]!;
    this.#vni = wholeNumber('vni', options.vni ?? 1, 1, 0xffffff);
    this.#port = wholeNumber('vxlanPort', options.vxlanPort ?? VXLAN_PORT, 1, 0xffff, 'a UDP port');
    this.#addresses = Int32Array.from(backends, ({ address }) => address);
    this.#macs = backends.map(({ name, port, mac }) => {
      if (mac !== undefined && port === 0) return mac;
      const hint = "Give the MAC address of the VXLAN device there: '10.0.0.5@02:00:00:00:00:05'.";
      return invalid('backends', `${name} has ${port === 0 ? 'no MAC address' : 'a port'}`, hint);
    });
    this.#table = maglevTable(backends.map(({ name }) => name));
  }

  /** Puts a packet that is served into the tunnel to its backend. */
  send(packet: Packet, { l3, end }: Flow, mac: Uint8Array): Verdict {
    const { slot, isFromVip } = this.#service;
    if (packet.srcEquals(mac) || (packet.u8(6) & 1) !== 0 || isFromVip) return DROP;
    // Tags belong to the network here, and are not the backend's.
    const tags = l3 - ETHERNET_BYTES;
    if (packet.headroom + tags < OUTER) return DROP;
    const index = this.#table[slot]!;
    const router = int32At(packet, 6);
    const routerEnd = packet.u16(10);
    packet.length = end; // padding is not the packet's
    packet.trimFront(tags);
    packet.write(0, this.#macs[index]!);
    packet.write(6, mac);
    packet.setU16(IP - 2, IPV4);
    const bytes = packet.length;
    packet.prepend(OUTER);
    packet.setU32(0, router);
    packet.setU16(4, routerEnd);
    packet.write(6, mac);
    packet.setU16(IP - 2, IPV4);
    writeIpv4(packet, IP, this.#source, this.#addresses[index]!, UDP, UDP_BYTES + VXLAN_BYTES + bytes);
    writeUdp(packet, L4, FIRST_SOURCE_PORT + (slot & 0x3fff), this.#port, VXLAN_BYTES + bytes);
    writeVxlan(packet, VXLAN, this.#vni);
    return TX;
  }
}
