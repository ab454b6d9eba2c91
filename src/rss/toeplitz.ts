/**
 * The Toeplitz hash of a packet, in software: the hash of receive-side scaling in network cards.
 *
 * For each bit that is set in the input, the 32 bits of the key that start at that bit's position are XORed into the hash
 * (Microsoft, "RSS Hashing Functions"). The input is source address, destination address, source port and destination
 * port, in network order:
 *
 * - TCP and UDP over IPv4 and IPv6: addresses and ports;
 * - other protocols, fragments, and packets that end before their ports: only the addresses. The first fragment has ports,
 *   but must get the hash of the others;
 * - packets that are not IP, or end before the addresses do: the hash is 0.
 *
 * Of these, a port may hash fewer types (`HashBit`): without `tcp4`, TCP over IPv4 counts as another protocol, and without
 * `ipv4` other protocols have the hash 0. Fragments count as other protocols. That is how NDIS and Linux drivers take it.
 *
 * VLAN tags (net/ethernet.ts), IPv4 options and the IPv6 headers hop-by-hop, routing and destination options are skipped.
 * The addresses are those of the fixed header, never of a routing header. Only the packet's bytes limit the reads: lengths
 * in headers are not trusted.
 *
 * Any thread, one object each. `of` allocates nothing, and does not throw for a packet inside the memory.
 */
import { ETHERNET_BYTES, EtherType, networkOffset } from '../net/ethernet.ts';
import { MAX_EXTENSIONS, Protocol, protocolOf } from '../net/ip.ts';
import { Ipv4Field, ipv4Ports } from '../net/ipv4.ts';
import { Follow, Ipv6Field, ipv6Ports, ipv6Upper } from '../net/ipv6.ts';
import { ALL_HASHED, HashBit } from './configuration.ts';

/** Copies: V8 loads and checks an imported value with each use. */
const { IPV4, IPV6 } = EtherType;
const MIN_BYTES = ETHERNET_BYTES;
const offsetOf = networkOffset;
const portsOfIpv4 = ipv4Ports;
const portsOfIpv6 = ipv6Ports;
const MAX = MAX_EXTENSIONS;
/** A fragment header ends the walk, as a protocol does. */
const FOLLOWS = Follow.OPTIONS;
const IPV4_ADDRESSES = Ipv4Field.ADDRESSES;
const IPV6_ADDRESSES = Ipv6Field.ADDRESSES;
const ALL = ALL_HASHED;

/** Bytes of the longest input: two IPv6 addresses and two ports. */
const INPUT_BYTES = 36;
/** Table entries of a 32-bit word of input: four bytes of 256 values. */
const WORD = 4 * 256;

export class RssHash {
  readonly #view: DataView;
  #table: Int32Array;
  #types: number;

  /**
   * @param view of the whole shared memory
   * @param key from `keyOf`: at least 40 bytes; later bytes are not used
   * @param types bits of `HashBit`
   */
  constructor(view: DataView, key: Uint8Array, types: number = ALL_HASHED) {
    this.#view = view;
    this.#table = tableOf(key);
    this.#types = types;
  }

  /** From the next packet on. @param table that of the key, from {@link HashTables} */
  use(table: Int32Array, types: number): void {
    this.#table = table;
    this.#types = types;
  }

  /** The Int32 hash of the Ethernet packet of `bytes` bytes at `offset` of the memory. */
  of(offset: number, bytes: number): number {
    if (bytes < MIN_BYTES) return 0;
    const view = this.#view;
    const l3 = offsetOf(view, offset, bytes);
    const type = view.getUint16(offset + l3 - 2);
    if (this.#types !== ALL)
      return restrictedHash(view, this.#table, this.#types, type, offset + l3, bytes - l3);
    if (type === IPV4) return ipv4Hash(view, this.#table, offset + l3, bytes - l3);
    if (type === IPV6) return ipv6Hash(view, this.#table, offset + l3, bytes - l3);
    return 0;
  }
}

/** The tables of the keys of one worker's ports: ports with the same key share one, and so the cache. */
export class HashTables {
  readonly #tables = new Map<string, Int32Array>();
  readonly #most: number;

  /** @param ports of the worker: more keys are not in use at once */
  constructor(ports: number) {
    this.#most = ports;
  }

  of(key: Uint8Array): Int32Array {
    const name = key.join();
    const table = this.#tables.get(name) ?? tableOf(key);
    this.#tables.delete(name); // and to the end
    this.#tables.set(name, table);
    const [oldest] = this.#tables.keys();
    if (this.#tables.size > this.#most) this.#tables.delete(oldest!);
    return table;
  }
}

/** The hash with fewer types. A separate function: it is not to take of what V8 inlines for the others. */
function restrictedHash(
  view: DataView,
  table: Int32Array,
  types: number,
  etherType: number,
  ip: number,
  bytes: number,
): number {
  if (etherType === IPV4) {
    const ports = ipv4Ports(view, ip, bytes);
    if (ports < 0) return 0;
    const isTcp = view.getUint8(ip + Ipv4Field.PROTOCOL) === Protocol.TCP;
    if (ports > 0 && (types & (isTcp ? HashBit.TCP4 : HashBit.UDP4)) !== 0)
      return ipv4Hash(view, table, ip, bytes);
    return (types & HashBit.IPV4) === 0 ? 0 : ipv4Addresses(view, table, ip);
  }
  if (etherType !== IPV6) return 0;
  const ports = ipv6Ports(view, ip, bytes, FOLLOWS, MAX);
  if (ports < 0) return 0;
  const isTcp = protocolOf(ipv6Upper(view, ip, bytes, FOLLOWS, MAX)) === Protocol.TCP;
  if (ports > 0 && (types & (isTcp ? HashBit.TCP6 : HashBit.UDP6)) !== 0)
    return ipv6Hash(view, table, ip, bytes);
  return (types & HashBit.IPV6) === 0 ? 0 : ipv6Addresses(view, table, ip);
}

/** Hash of the IPv4 packet of `bytes` bytes at `ip` of the memory. */
function ipv4Hash(view: DataView, table: Int32Array, ip: number, bytes: number): number {
  const ports = portsOfIpv4(view, ip, bytes);
  if (ports < 0) return 0;
  const addresses = ipv4Addresses(view, table, ip);
  return ports === 0 ? addresses : addresses ^ wordHash(view, table, ip + ports, 2 * WORD);
}

function ipv4Addresses(view: DataView, table: Int32Array, ip: number): number {
  const source = ip + IPV4_ADDRESSES;
  return wordHash(view, table, source, 0) ^ wordHash(view, table, source + 4, WORD);
}

/** The same for IPv6. */
function ipv6Hash(view: DataView, table: Int32Array, ip: number, bytes: number): number {
  const ports = portsOfIpv6(view, ip, bytes, FOLLOWS, MAX);
  if (ports < 0) return 0;
  const addresses = ipv6Addresses(view, table, ip);
  return ports === 0 ? addresses : addresses ^ wordHash(view, table, ip + ports, 8 * WORD);
}

function ipv6Addresses(view: DataView, table: Int32Array, ip: number): number {
  const source = ip + IPV6_ADDRESSES;
  let addresses = 0;
  for (let word = 0; word < 8; word++) {
    addresses ^= wordHash(view, table, source + word * 4, word * WORD);
  }
  return addresses;
}

/** Hash of one 32-bit word of input. The little-endian load needs no swap: the first byte is the lowest. */
function wordHash(view: DataView, table: Int32Array, at: number, base: number): number {
  const word = view.getUint32(at, true);
  return (
    table[base + (word & 255)]! ^
    table[base + 256 + ((word >>> 8) & 255)]! ^
    table[base + 512 + ((word >>> 16) & 255)]! ^
    table[base + 768 + (word >>> 24)]!
  );
}

/**
 * A table of 256 hashes for each byte of input: 36 KiB, of which IPv4 uses 12.
 *
 * Measured on an AMD EPYC with 32 KiB of L1 and 1 MiB of L2, Node 20, a burst of 64 packets at a time, ns
 * a hash for IPv4 and IPv6 with ports, after the rest of the program has run through 0, 256 and 1024 KiB:
 *
 * ```
 *   bytes      36 KiB     7.6  23      8.4  25     10-14  31
 *   6 bits     11 KiB    11    32     11    34     12     34
 *   nibbles     5 KiB    13    43     13    43     13     43
 *   11 bits   180 KiB     7.2  22      9    24     11     38
 * ```
 *
 * Bytes are the fastest, or nearly so, in all columns. Nibbles need twice the loads, which cost more than the cache lines
 * they save, because a burst shares the lines. 11 bits are faster only with warm caches. The numbers are of the hash alone;
 * with parsing it takes about twice that for IPv4 (perf/benchmarks/kernels.ts).
 */
function tableOf(key: Uint8Array): Int32Array {
  const table = new Int32Array(INPUT_BYTES * 256);
  for (let at = 0; at < INPUT_BYTES; at++) {
    for (let value = 1; value < 256; value++) {
      // The hash is linear, and the table already has the hash of the value without its lowest bit.
      const lowest = 31 - Math.clz32(value & -value);
      const rest = table[at * 256 + (value & (value - 1))]!;
      table[at * 256 + value] = rest ^ keyWindow(key, at * 8 + 7 - lowest);
    }
  }
  return table;
}

/** The 32 bits of the key that start at a bit; zeros after the key's end. */
function keyWindow(key: Uint8Array, bit: number): number {
  const byte = (at: number): number => key[(bit >> 3) + at] ?? 0;
  const high = (byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3);
  const shift = bit & 7;
  return (high << shift) | (byte(4) >> (8 - shift));
}
