/**
 * Counts packets and bytes by flow, in a table of fixed size. Belongs to one worker; `add` allocates nothing.
 *
 * Open addressing over typed arrays: a flow is in one of a few neighbouring entries. If other flows have all of them, the
 * new flow replaces the smallest and inherits its count, as in the Space-Saving algorithm (Metwally et al., ICDT 2005). So
 * counts may be too high but never too low, and a flow with many packets is never replaced. `inherited` is the part of a
 * count that may belong to other flows.
 */
import type { Packet } from '../handler/packet.ts';
import { type Flow, finishHash, int32At, mixHash } from '../net/flow.ts';
import { Protocol } from '../net/ip.ts';

/** 32-bit words of a key: both ports, kind, source, destination, and for IPv6 the rest of both. */
const KEY_WORDS = 10;
const IPV4_WORDS = 4;
const WINDOW = 8;
const ENTRIES = 65_536;
const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(Protocol).map(([name, number]) => [number, name.toLowerCase()]),
);

export interface FlowCount {
  /** '10.0.0.1:5000 > 10.0.0.2:53 udp'. */
  readonly name: string;
  readonly packets: number;
  /** How many of the packets may belong to replaced flows. The bytes are this flow's own. */
  readonly inherited: number;
  readonly bytes: number;
}

export class FlowTable {
  readonly #mask: number;
  readonly #keys: Int32Array;
  readonly #packets: Float64Array;
  readonly #inherited: Float64Array;
  readonly #bytes: Float64Array;
  /** Key of the current packet. */
  readonly #key = new Int32Array(KEY_WORDS);

  /** @param entries a power of two; each takes 64 bytes */
  constructor(entries = ENTRIES) {
    this.#mask = entries - 1;
    this.#keys = new Int32Array(entries * KEY_WORDS);
    this.#packets = new Float64Array(entries);
    this.#inherited = new Float64Array(entries);
    this.#bytes = new Float64Array(entries);
  }

  /** Counts a packet that `flow.read` has read. */
  add(packet: Packet, flow: Flow): void {
    const words = this.#readKey(packet, flow);
    let hash = 0;
    for (let k = 0; k < words; k++) hash = mixHash(hash, this.#key[k]!);
    const start = finishHash(hash);
    let smallest = start & this.#mask;
    for (let i = 0; i < WINDOW; i++) {
      const entry = (start + i) & this.#mask;
      if (this.#packets[entry] === 0) this.#assign(entry);
      if (this.#holds(entry, words)) {
        this.#count(entry, packet.length);
        return;
      }
      if (this.#packets[entry]! < this.#packets[smallest]!) smallest = entry;
    }
    this.#assign(smallest);
    this.#count(smallest, packet.length);
  }

  /** The `count` flows with the most packets, most first. Reads all entries: about a millisecond. */
  top(count: number): FlowCount[] {
    const ranks: number[] = [];
    for (let entry = 0; entry <= this.#mask; entry++) {
      const packets = this.#packets[entry]!;
      if (packets === 0 || (ranks.length === count && packets <= this.#packets[ranks[count - 1]!]!)) continue;
      let rank = ranks.length;
      while (rank > 0 && this.#packets[ranks[rank - 1]!]! < packets) rank--;
      ranks.splice(rank, 0, entry);
      ranks.length = Math.min(ranks.length, count);
    }
    return ranks.map((entry) => ({
      name: nameOf(this.#keys.subarray(entry * KEY_WORDS, (entry + 1) * KEY_WORDS)),
      packets: this.#packets[entry]!,
      inherited: this.#inherited[entry]!,
      bytes: this.#bytes[entry]!,
    }));
  }

  /** @returns the words of the key; the words after them are a former flow's */
  #readKey(packet: Packet, { addresses, addressBytes, protocol, from, to }: Flow): number {
    const key = this.#key;
    key[0] = to < 0 ? 0 : (from << 16) | to;
    key[1] = (addressBytes << 16) | ((to < 0 ? 0 : 1) << 9) | (protocol + 1);
    key[2] = int32At(packet, addresses);
    key[3] = int32At(packet, addresses + addressBytes);
    if (addressBytes === 4) return IPV4_WORDS;
    for (let k = 0; k < 3; k++) {
      key[IPV4_WORDS + k] = int32At(packet, addresses + 4 + 4 * k);
      key[IPV4_WORDS + 3 + k] = int32At(packet, addresses + 20 + 4 * k);
    }
    return KEY_WORDS;
  }

  #holds(entry: number, words: number): boolean {
    const at = entry * KEY_WORDS;
    for (let k = 0; k < words; k++) if (this.#keys[at + k] !== this.#key[k]) return false;
    return true;
  }

  /** Assigns the entry to the packet's flow, which inherits the entry's count. */
  #assign(entry: number): void {
    this.#keys.set(this.#key, entry * KEY_WORDS);
    this.#inherited[entry] = this.#packets[entry]!;
    this.#bytes[entry] = 0;
  }

  #count(entry: number, bytes: number): void {
    this.#packets[entry]!++;
    this.#bytes[entry]! += bytes;
  }
}

function nameOf(key: Int32Array): string {
  const isIpv4 = key[1]! >> 16 === 4;
  const protocol = (key[1]! & 0x1ff) - 1;
  const hasPorts = (key[1]! & 0x200) !== 0;
  const source = isIpv4 ? ipv4Text(key[2]!) : ipv6Text([key[2]!, ...key.subarray(4, 7)]);
  const target = isIpv4 ? ipv4Text(key[3]!) : ipv6Text([key[3]!, ...key.subarray(7, 10)]);
  const from = hasPorts ? `:${key[0]! >>> 16}` : '';
  const to = hasPorts ? `:${key[0]! & 0xffff}` : '';
  const what = protocol < 0 ? 'protocol unknown' : (NAMES.get(protocol) ?? `protocol ${protocol}`);
  return `${source}${from} > ${target}${to} ${what}`;
}

function ipv4Text(address: number): string {
  return [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255].join('.');
}

/** In brackets, so that a port after it does not look like a group; the URL parser shortens it (RFC 5952). */
function ipv6Text(words: readonly number[]): string {
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]).map((group) => group.toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname;
}
