/**
 * The two VXLAN tunnels of `gwlb`: takes the packets of a burst out of them, and puts them back. Belongs to the worker thread;
 * allocates nothing but the constructor.
 */
import type { Burst } from '../handler/burst.ts';
import type { Packet } from '../handler/packet.ts';
import { writeIpv4 } from '../headers/ip.ts';
import { UDP_BYTES, writeUdp } from '../headers/transport.ts';
import { VXLAN_BYTES, vxlanVni, writeVxlan } from '../headers/vxlan.ts';
import { BURST } from '../memory/layout.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';
import { int32At } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';
import { IPV4_BYTES, Ipv4Field } from '../net/ipv4.ts';

/** One tunnel: where packets of it go to at the load balancer, and here. */
export interface Tunnel {
  readonly port: number;
  readonly vni: number;
}

const L4 = ETHERNET_BYTES + IPV4_BYTES;
const VXLAN = L4 + UDP_BYTES;
/** Bytes of the headers around an inner packet. */
const OUTER = VXLAN + VXLAN_BYTES;
const IP = ETHERNET_BYTES;
const ADDRESSES = IP + Ipv4Field.ADDRESSES;
const TTL = 8;
const { IPV4 } = EtherType;
const { UDP } = Protocol;

export class Tunnels {
  readonly #tunnels: readonly [Tunnel, Tunnel];
  // Of each packet that is out of its tunnel, by its position in the burst.
  readonly #tunnel = new Uint8Array(BURST);
  readonly #macs = new Uint8Array(BURST * 6);
  readonly #sources = new Int32Array(BURST);
  readonly #targets = new Int32Array(BURST);
  readonly #ports = new Uint16Array(BURST);
  readonly #ttls = new Uint8Array(BURST);
  readonly #fields = { ttl: 0 };
  /** New order of the burst. */
  readonly #order = new Uint8Array(BURST);
  readonly #others = new Uint8Array(BURST);
  readonly #numbers = new Int32Array(BURST);
  readonly #bigs = new BigUint64Array(BURST);

  constructor(internal: Tunnel, external: Tunnel) {
    this.#tunnels = [internal, external];
  }

  /**
   * Takes packets out of their tunnels. They become the first of the burst, in their order; the others follow, in theirs.
   *
   * @param mac of the port
   * @returns how many
   */
  enter(burst: Burst, mac: Uint8Array): number {
    const { length } = burst;
    let inside = 0;
    let others = 0;
    for (let i = 0; i < length; i++) {
      const packet = burst.packet(i);
      const tunnel = this.#tunnelOf(packet, mac);
      if (tunnel < 0) {
        this.#others[others++] = i;
        continue;
      }
      this.#order[inside] = i;
      this.#tunnel[inside] = tunnel;
      for (let k = 0; k < 6; k++) this.#macs[inside * 6 + k] = packet.u8(6 + k);
      this.#sources[inside] = int32At(packet, ADDRESSES);
      this.#targets[inside] = int32At(packet, ADDRESSES + 4);
      this.#ports[inside] = packet.u16(L4);
      this.#ttls[inside] = packet.u8(IP + TTL);
      inside++;
      packet.length = IP + packet.u16(IP + Ipv4Field.LENGTH); // padding is not the inner packet's
      packet.trimFront(OUTER);
    }
    if (inside > 0 && others > 0) this.#sort(burst, inside, others);
    return inside;
  }

  /** Puts a packet back into its tunnel as it came. Only if the inner handler has not had it. */
  restore(burst: Burst, i: number): void {
    burst.packet(i).prepend(OUTER);
  }

  /**
   * Puts a packet into a tunnel, addressed to where it came from.
   *
   * @param other whether into the other tunnel than its own
   * @returns false if its frame has no room for the headers, or it is too long for IP
   */
  leave(burst: Burst, i: number, other: boolean, mac: Uint8Array): boolean {
    const packet = burst.packet(i);
    const bytes = packet.length;
    if (packet.headroom < OUTER || bytes + OUTER > 0xffff) return false;
    const { port, vni } = this.#tunnels[other ? 1 - this.#tunnel[i]! : this.#tunnel[i]!]!;
    packet.prepend(OUTER);
    for (let k = 0; k < 6; k++) packet.setU8(k, this.#macs[i * 6 + k]!);
    packet.write(6, mac);
    packet.setU16(IP - 2, IPV4);
    const payload = UDP_BYTES + VXLAN_BYTES + bytes;
    // The source is not verified and may be another balancer's: a fresh time to live would let a packet go round for ever.
    this.#fields.ttl = this.#ttls[i]! - 1;
    writeIpv4(packet, IP, this.#targets[i]!, this.#sources[i]!, UDP, payload, this.#fields);
    writeUdp(packet, L4, this.#ports[i]!, port, VXLAN_BYTES + bytes);
    writeVxlan(packet, VXLAN, vni);
    return true;
  }

  /** 0 internal, 1 external, -1 none. */
  #tunnelOf(packet: Packet, mac: Uint8Array): number {
    const { length } = packet;
    if (length < OUTER + ETHERNET_BYTES || packet.u16(IP - 2) !== IPV4 || packet.u8(IP) !== 0x45) return -1;
    if (packet.u8(IP + Ipv4Field.PROTOCOL) !== UDP || !packet.dstEquals(mac)) return -1;
    if ((packet.u16(IP + Ipv4Field.FRAGMENT) & 0x3fff) !== 0) return -1;
    if (packet.u8(IP + TTL) <= 1 || int32At(packet, ADDRESSES) === int32At(packet, ADDRESSES + 4)) return -1;
    const total = packet.u16(IP + Ipv4Field.LENGTH);
    const isWhole = total + IP <= length && total === packet.u16(L4 + 4) + IPV4_BYTES;
    if (!isWhole || total + IP < OUTER + ETHERNET_BYTES) return -1;
    const port = packet.u16(L4 + 2);
    const vni = vxlanVni(packet, VXLAN);
    const [internal, external] = this.#tunnels;
    if (port === internal.port && vni === internal.vni) return 0;
    return port === external.port && vni === external.vni ? 1 : -1;
  }

  #sort(burst: Burst, inside: number, others: number): void {
    for (let i = 0; i < others; i++) this.#order[inside + i] = this.#others[i]!;
    const count = inside + others;
    this.#arrange(burst.offset, count);
    this.#arrange(burst.bytes, count);
    this.#arrange(burst.hash, count);
    this.#arrange(burst.offload, count);
    if (burst.metadata === 0) return;
    this.#arrange(burst.tag, count);
    this.#arrange(burst.rule, count);
    this.#arrange(burst.checksum, count);
    for (let i = 0; i < count; i++) this.#bigs[i] = burst.time[this.#order[i]!]!;
    for (let i = 0; i < count; i++) burst.time[i] = this.#bigs[i]!;
  }

  #arrange(array: Int32Array | Uint8Array, count: number): void {
    for (let i = 0; i < count; i++) this.#numbers[i] = array[this.#order[i]!]!;
    for (let i = 0; i < count; i++) array[i] = this.#numbers[i]!;
  }
}
