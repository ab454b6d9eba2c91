/** Which packets `balance` without state serves, and the slot of the Maglev table for each. Belongs to the worker thread. */
import type { Packet } from '../handler/packet.ts';
import { has } from '../net/addresses.ts';
import { type Flow, int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES } from '../net/ipv4.ts';
import { slotOf } from './balance-options.ts';

const ICMP_BYTES = 8;

export class VirtualService {
  readonly #vips: Int32Array;
  /** By port: 1 if it is balanced; undefined if all are. */
  readonly #ports: Uint8Array | undefined;
  /** Slot of the current packet in the Maglev table. */
  slot = 0;
  /** Whether the current packet has a virtual address as source. */
  isFromVip = false;

  constructor(vips: Int32Array, ports: Uint8Array | undefined) {
    this.#vips = vips;
    this.#ports = ports;
  }

  /** Whether the packet is to be balanced. If so, {@link slot} is its. */
  serves(packet: Packet, flow: Flow, mac: Uint8Array): boolean {
    if (flow.addressBytes !== 4 || !packet.dstEquals(mac)) return false;
    const { addresses, protocol, l4 } = flow;
    const vip = int32At(packet, addresses + 4);
    if (!has(this.#vips, vip)) return false;
    const source = int32At(packet, addresses);
    this.isFromVip = has(this.#vips, source);
    if (protocol === Protocol.ICMP && l4 >= 0 && isIcmpError(packet, l4, flow.end)) {
      return this.#servesError(packet, l4 + ICMP_BYTES, flow.end, vip);
    }
    if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) {
      this.slot = slotOf(source, vip, protocol, 0);
      return this.#ports === undefined;
    }
    this.slot = slotOf(source, vip, protocol, flow.fragment ? 0 : int32At(packet, l4));
    return this.#ports === undefined || flow.fragment || this.#ports[flow.to] === 1;
  }

  /** The packet at `inner` was a backend's reply: its addresses and ports, exchanged, name the slot. */
  #servesError(packet: Packet, inner: number, end: number, vip: number): boolean {
    if (inner + IPV4_BYTES > end || int32At(packet, inner + 12) !== vip) return false;
    const protocol = packet.u8(inner + 9);
    const client = int32At(packet, inner + 16);
    const l4 = inner + (packet.u8(inner) & 15) * 4;
    let ports = 0;
    if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) {
      if (this.#ports !== undefined) return false;
    } else if ((packet.u16(inner + 6) & 0x1fff) === 0) {
      if (l4 + 4 > end) return false;
      const from = packet.u16(l4);
      if (this.#ports !== undefined && this.#ports[from] !== 1) return false;
      ports = (packet.u16(l4 + 2) << 16) | from;
    }
    this.slot = slotOf(client, vip, protocol, ports);
    return true;
  }
}

/** Unreachable (fragmentation needed among it), time exceeded, parameter problem: RFC 792. */
function isIcmpError(packet: Packet, l4: number, end: number): boolean {
  if (l4 + ICMP_BYTES > end) return false;
  const type = packet.u8(l4);
  return type === 3 || type === 11 || type === 12;
}
