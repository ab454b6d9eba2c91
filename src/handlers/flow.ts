/**
 * Which flow a packet belongs to: one object per worker, refilled for each packet, so nothing is allocated.
 *
 * `read` follows IPv4 (RFC 791), the extension headers of IPv6 (RFC 8200) and the authentication header of both
 * (RFC 4302) to the header above, checking every length against the packet and none of the checksums. What cannot be
 * known, such as the ports in a later fragment, is -1.
 */
import { type Packet, Protocol } from '../handler/packet.ts';
import { ETHERNET_BYTES, EtherType } from '../net/ethernet.ts';

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
const PORTS_BYTES = 4;

/** Next header values of RFC 8200 and RFC 4302 that are not the end of the chain. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION = 60;
/** More are read by nobody: a sender that wants to hide what it sends. */
const MOST_EXTENSIONS = 8;

export class Flow {
  /** EtherType behind VLAN tags; -1 in a frame too short for one. */
  type = -1;
  /** Position of what follows the EtherType. */
  l3 = 0;
  /** Position of the source address; the destination follows it. */
  addresses = 0;
  /** Bytes of one address: 4 or 16. */
  addressBytes = 0;
  /** IPv4 protocol, or next header of IPv6 at the end of the chain; -1 where that cannot be seen. */
  protocol = -1;
  /** Position of the header above IP; -1 in a later fragment. */
  l4 = -1;
  /** Where the IP packet ends; an Ethernet frame may go on with padding. */
  end = 0;
  /** Source and destination port of TCP and UDP; -1 of other protocols and in later fragments. */
  from = -1;
  to = -1;
  /** Whether it is one part of a packet, the first included. */
  fragment = false;

  /** False for what is no IP packet, or is one that contradicts itself: then only `type` and `l3` hold. */
  read(packet: Packet): boolean {
    this.type = -1;
    if (packet.length < ETHERNET_BYTES) return false;
    this.l3 = packet.l3;
    this.type = packet.u16(this.l3 - 2);
    this.protocol = this.l4 = this.from = this.to = -1;
    this.fragment = false;
    if (this.type === EtherType.IPV4) return this.#readIpv4(packet, this.l3);
    if (this.type === EtherType.IPV6) return this.#readIpv6(packet, this.l3);
    return false;
  }

  #readIpv4(packet: Packet, l3: number): boolean {
    if (packet.length < l3 + IPV4_BYTES) return false;
    const first = packet.u8(l3);
    const headerBytes = (first & 15) * 4;
    const total = packet.u16(l3 + 2);
    if (first >> 4 !== 4 || headerBytes < IPV4_BYTES || total < headerBytes) return false;
    this.end = l3 + total;
    if (this.end > packet.length) return false;
    this.addresses = l3 + 12;
    this.addressBytes = 4;
    this.protocol = packet.u8(l3 + 9);
    const place = packet.u16(l3 + 6);
    this.fragment = (place & 0x3fff) !== 0;
    if (this.protocol === AUTHENTICATION) return this.#readAuthenticated(packet, l3 + headerBytes);
    if ((place & 0x1fff) !== 0) return true;
    this.l4 = l3 + headerBytes;
    return this.#readPorts(packet);
  }

  /** What IPv4 authenticates. Only the first fragment says what that is, so of fragments nobody asks it. */
  #readAuthenticated(packet: Packet, start: number): boolean {
    this.protocol = -1;
    if (this.fragment) return true;
    let next = AUTHENTICATION;
    let at = start;
    for (let headers = 0; next === AUTHENTICATION; headers++) {
      if (headers === MOST_EXTENSIONS) return true;
      if (at + 8 > this.end) return false;
      next = packet.u8(at);
      at += (packet.u8(at + 1) + 2) * 4;
    }
    if (at > this.end) return false;
    this.protocol = next;
    this.l4 = at;
    return this.#readPorts(packet);
  }

  #readIpv6(packet: Packet, l3: number): boolean {
    if (packet.length < l3 + IPV6_BYTES || packet.u8(l3) >> 4 !== 6) return false;
    this.end = l3 + IPV6_BYTES + packet.u16(l3 + 4);
    if (this.end > packet.length) return false;
    this.addresses = l3 + 8;
    this.addressBytes = 16;
    let next = packet.u8(l3 + 6);
    let at = l3 + IPV6_BYTES;
    for (let headers = 0; isExtension(next); headers++) {
      if (headers === MOST_EXTENSIONS) return true; // an intact packet, of a protocol nobody knows
      if (at + 8 > this.end) return false;
      const kind = next;
      next = packet.u8(at);
      if (kind === FRAGMENT) {
        const place = packet.u16(at + 2);
        this.fragment = this.fragment || (place & 0xfff9) !== 0;
        if ((place & 0xfff8) !== 0) {
          // Behind a further extension header the protocol is in the first fragment only.
          if (!isExtension(next)) this.protocol = next;
          return true;
        }
        at += 8;
      } else {
        at += kind === AUTHENTICATION ? (packet.u8(at + 1) + 2) * 4 : (packet.u8(at + 1) + 1) * 8;
      }
    }
    if (at > this.end) return false;
    this.protocol = next;
    this.l4 = at;
    return this.#readPorts(packet);
  }

  #readPorts(packet: Packet): boolean {
    if (this.protocol !== Protocol.TCP && this.protocol !== Protocol.UDP) return true;
    if (this.l4 + PORTS_BYTES > this.end) return false;
    this.from = packet.u16(this.l4);
    this.to = packet.u16(this.l4 + 2);
    return true;
  }
}

function isExtension(next: number): boolean {
  return (
    next === HOP_BY_HOP ||
    next === ROUTING ||
    next === FRAGMENT ||
    next === AUTHENTICATION ||
    next === DESTINATION
  );
}

/**
 * 32 bits as a signed number, without a check: for positions that `read` has checked. `packet.u32` reaches
 * 2^32, and where V8 does not inline the call, a result from 2^31 on is an object: 12 bytes of garbage.
 */
export function word(packet: Packet, at: number): number {
  return packet.view.getInt32(packet.offset + at);
}

/** Adds a 32-bit word to a hash: one round of MurmurHash3 (A. Appleby), whose constants these are. */
export function mix(hash: number, word: number): number {
  const spread = Math.imul(word, 0xcc9e2d51);
  const both = hash ^ Math.imul((spread << 15) | (spread >>> 17), 0x1b873593);
  return (Math.imul((both << 13) | (both >>> 19), 5) + 0xe6546b64) | 0;
}

/** Lets every bit of a hash depend on every other. Signed: above 2^31 a number would be an object. */
export function finish(hash: number): number {
  let bits = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}
