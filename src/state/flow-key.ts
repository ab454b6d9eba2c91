/**
 * The key of a flow: addresses, protocol, and the ports of TCP and UDP, of IPv4 and IPv6. Make one object in `create` and read
 * packet after packet with it: it allocates nothing. Any thread; an object belongs to one.
 *
 * A packet without ports (a later fragment, ICMP) has a key of its own kind, which equals none with ports.
 */
import { type Flow, finishHash, int32At, mixHash, type PacketBytes } from '../net/flow.ts';

/** 32-bit words of the longest key. */
export const KEY_WORDS = 10;
const WORDS = KEY_WORDS;
const IPV4_WORDS = 4;
const IPV4_BYTES = 4;
const HAS_PORTS = 1 << 9;

export class FlowKey {
  /**
   * Ports (source in the high half), kind, first word of the source and of the destination; of IPv6 the rest of both too. Words
   * after {@link length} are another key's.
   */
  readonly words = new Int32Array(WORDS);
  /** Words of the key: 4 of IPv4, 10 of IPv6. */
  length = IPV4_WORDS;

  /** Takes the key of a packet that `flow.read` has read. */
  read(packet: PacketBytes, { addresses, addressBytes, protocol, from, to }: Flow): this {
    const { words } = this;
    words[0] = to < 0 ? 0 : (from << 16) | to;
    words[1] = kindOf(addressBytes, protocol, to >= 0);
    words[2] = int32At(packet, addresses);
    words[3] = int32At(packet, addresses + addressBytes);
    if (addressBytes === IPV4_BYTES) {
      this.length = IPV4_WORDS;
      return this;
    }
    for (let k = 0; k < 3; k++) {
      words[IPV4_WORDS + k] = int32At(packet, addresses + 4 + 4 * k);
      words[IPV4_WORDS + 3 + k] = int32At(packet, addresses + 20 + 4 * k);
    }
    this.length = WORDS;
    return this;
  }

  /**
   * Makes the key of an IPv4 flow of TCP or UDP.
   *
   * @param source 32 bits, signed or not
   * @param destination likewise
   */
  ipv4(source: number, destination: number, protocol: number, from: number, to: number): this {
    const { words } = this;
    words[0] = (from << 16) | (to & 0xffff);
    words[1] = kindOf(IPV4_BYTES, protocol, true);
    words[2] = source;
    words[3] = destination;
    this.length = IPV4_WORDS;
    return this;
  }

  /** Turns it into the key of the flow in the other direction. */
  reverse(): this {
    const { words } = this;
    const ports = words[0]!;
    words[0] = (ports << 16) | (ports >>> 16);
    const first = words[2]!;
    words[2] = words[3]!;
    words[3] = first;
    for (let k = IPV4_WORDS; k < this.length - 3; k++) {
      const word = words[k]!;
      words[k] = words[k + 3]!;
      words[k + 3] = word;
    }
    return this;
  }

  /** A hash that no other word than the key's takes part in. Signed. */
  hash(seed: number): number {
    const { words, length } = this;
    let hash = seed;
    for (let k = 0; k < length; k++) hash = mixHash(hash, words[k]!);
    return finishHash(hash);
  }
}

/** `protocol` may be -1, unknown. */
function kindOf(addressBytes: number, protocol: number, hasPorts: boolean): number {
  return (addressBytes << 16) | (hasPorts ? HAS_PORTS : 0) | (protocol + 1);
}
