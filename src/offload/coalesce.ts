/**
 * Merges consecutive TCP segments of a flow into large ones, as the kernel's GRO does (net/core/gro.c,
 * net/ipv4/tcp_offload.c). The kernel's stack then runs once per chain and not once per frame.
 *
 * Payload is not copied. A chain is its first packet, whose headers are changed in place, and the payload of the packets
 * after it; one `writev` writes it:
 *
 * ```
 *   head frame       [ virtio_net_hdr | headers | payload ]     first entry
 *   second frame     [     headers    | payload ]               second entry: payload only
 *   …
 * ```
 *
 * **Only packets with correct checksums are merged.** If a chain is segmented again, as the kernel does when it forwards
 * one, each frame gets a new checksum, which would be correct for damaged data too. So the TCP and IPv4 checksums of each
 * packet of a chain are verified. A packet with a wrong checksum passes alone and unchanged, and its receiver refuses it.
 * The kernel does the same (tcp_gro_receive after skb_gro_checksum_validate). The large segment has the sum of the pseudo
 * header in its checksum field (CHECKSUM_PARTIAL, as after tcp_gro_complete), so the kernel does not sum the data again.
 *
 * **Packets of a flow stay in order.** Chains come out in the order of their first packets. A packet that cannot continue
 * its flow's chain ends it and starts a new one. A packet whose flow is unknown, such as a fragment, ends all chains.
 *
 * **Which packets are merged:** TCP over IPv4 without options or IPv6 without extension headers, with the next sequence
 * number. All other headers must be the same, including Ethernet, VLAN tags, acknowledgement, window and options. Only
 * lengths, checksums and the IPv4 identification may differ. The identification must increment, unless DF is set, because
 * it has no meaning then (RFC 6864). All segments but the last have the same payload length, and only the last may have
 * PSH or FIN.
 *
 * A packet of 1448 bytes costs 160 ns on Node 20, 40 of them for the sum. A packet that passes alone is not verified and
 * costs 40. Allocates nothing per packet. Belongs to one thread.
 */

import { offloadWord, Segmentation } from '../memory/offload.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { checksum } from '../net/checksum.ts';
import { Headers, pseudoSum, TcpFlag } from '../net/headers.ts';
import { Protocol } from '../net/ip.ts';
import { flowHash, isPlain, sameHeaders } from './flow.ts';
import { makeSingle, makeWhole } from './lengths.ts';
import { VIRTIO_HEADER_BYTES, writeHeader } from './virtio.ts';

/**
 * Most segments of a chain: the entries of one `writev` in the shim. 45 full Ethernet frames fit an IP packet; of the smaller
 * segments of tunnels and narrow paths, more fit.
 */
export const MAX_SEGMENTS = 64;
/** The largest length in an IPv4 header; IPv6 would allow a little more. */
const MAX_IP_BYTES = 0xffff;
/** Chains that can grow at the same time: as many as fit a cache line. GRO has as many hash buckets. */
const OPEN_CHAINS = 8;
const NONE = -1;

const { TCP } = Protocol;
const { ACK, PSH, FIN, ECE } = TcpFlag;
const LAST = PSH | FIN;
const UNMERGED = 0xff & ~(ACK | ECE | LAST);

export class Coalescer {
  readonly capacity: number;
  /** After `close`: index of the first entry of chain c; `first[c + 1]` is the next chain's. */
  readonly first: Int32Array;
  /** After `close`: position in the shared memory, and bytes, of each entry. */
  readonly entryOffset: Int32Array;
  readonly entryBytes: Int32Array;

  readonly #view: DataView;
  readonly #ringOps: RingOperations;
  readonly #headers = new Headers();

  /** Per packet: position, bytes, chain. */
  readonly #offset: Int32Array;
  readonly #bytes: Int32Array;
  readonly #chain: Int32Array;
  #packets = 0;

  /** Per chain. Header positions are the same in all its packets. */
  readonly #head: Int32Array;
  readonly #segments: Int32Array;
  readonly #l3: Int32Array;
  readonly #l4: Int32Array;
  readonly #payload: Int32Array;
  /** Payload bytes of each segment but the last, and of all together. */
  readonly #size: Int32Array;
  readonly #total: Int32Array;
  /** Sum of the pseudo header without the length. Until the head's checksum is verified it is 0, which no address gives. */
  readonly #pseudo: Int32Array;
  /** The IPv4 and TCP checksums that `close` has replaced in the head. */
  readonly #checks: Int32Array;
  /** Sequence number after the last segment, and its PSH and FIN. */
  readonly #sequence: Int32Array;
  readonly #flags: Int32Array;
  #chains = 0;

  /** Chains that can grow, or NONE, and the hashes of their flows. */
  readonly #open = new Int32Array(OPEN_CHAINS).fill(NONE);
  readonly #hash = new Int32Array(OPEN_CHAINS);

  /** @param capacity most packets between two calls of `close` */
  constructor(memory: Memory, capacity: number) {
    const array = (): Int32Array => new Int32Array(capacity);
    this.#view = memory.view;
    this.#ringOps = ringOperationsOf(memory);
    this.capacity = capacity;
    this.first = new Int32Array(capacity + 1);
    this.entryOffset = array();
    this.entryBytes = array();
    this.#offset = array();
    this.#bytes = array();
    this.#chain = array();
    this.#head = array();
    this.#segments = array();
    this.#l3 = array();
    this.#l4 = array();
    this.#payload = array();
    this.#size = array();
    this.#total = array();
    this.#pseudo = array();
    this.#checks = array();
    this.#sequence = array();
    this.#flags = array();
  }

  /**
   * Adds the packet of `bytes` bytes at `offset`. It must not change until `close`. The {@link VIRTIO_HEADER_BYTES} bytes
   * before it are overwritten.
   *
   * @param offload its offload word; if it is not 0, the packet passes alone
   * @returns false if the packet was not added: `capacity` is used up, or its offload word contradicts its headers
   */
  add(offset: number, bytes: number, offload: number): boolean {
    if (this.#packets === this.capacity) return false;
    const view = this.#view;
    const headers = this.#headers;
    if (!headers.parse(view, offset, bytes)) {
      if (offload !== 0) return false;
      if (headers.mayBeTcp) this.#open.fill(NONE);
      this.#begin(offset, bytes, 0);
      return true;
    }
    if (headers.protocol !== TCP) {
      this.#begin(offset, bytes, offload);
      return true;
    }

    const hash = flowHash(view, offset, headers);
    const place = this.#find(hash);
    const flags = view.getUint8(offset + headers.l4 + 13);
    let mergeable = offload === 0 && (flags & UNMERGED) === 0 && isPlain(view, offset, bytes, headers);
    let pseudo = 0;
    if (place !== NONE) {
      const chain = this.#open[place]!;
      if (mergeable && this.#continues(chain, offset)) {
        pseudo = this.#pseudo[chain]! || pseudoSum(view, offset, headers);
        mergeable = this.#verifies(offset, headers.end, pseudo);
        if (mergeable && this.#headVerifies(chain, pseudo)) {
          if (!this.#append(chain, offset, bytes, flags)) this.#open[place] = NONE;
          return true;
        }
      }
      this.#open[place] = NONE;
    }
    const chain = this.#begin(offset, bytes, offload);
    this.#pseudo[chain] = pseudo;
    if (mergeable && (flags & LAST) === 0) this.#keepOpen(chain, hash);
    return true;
  }

  /**
   * Ends all chains and fills `first`, `entryOffset` and `entryBytes`, which are valid until the next `close`. Each packet
   * is one entry, so the caller can free each entry's frame after the write. A chain's first entry starts with the virtio
   * header.
   *
   * @returns the number of chains
   */
  close(): number {
    const { first, entryOffset, entryBytes } = this;
    const chains = this.#chains;
    // Entry of each chain's next packet.
    const cursor = this.#sequence;
    let entries = 0;
    for (let c = 0; c < chains; c++) {
      first[c] = entries;
      cursor[c] = entries;
      entries += this.#segments[c]!;
    }
    first[chains] = entries;
    for (let p = 0; p < this.#packets; p++) {
      const c = this.#chain[p]!;
      const entry = cursor[c]!;
      cursor[c] = entry + 1;
      const skipped = entry === first[c] ? -VIRTIO_HEADER_BYTES : this.#payload[c]!;
      entryOffset[entry] = this.#offset[p]! + skipped;
      entryBytes[entry] = this.#bytes[p]! - skipped;
    }
    for (let c = 0; c < chains; c++) if (this.#segments[c]! > 1) this.#finish(c);
    this.#packets = 0;
    this.#chains = 0;
    this.#open.fill(NONE);
    return chains;
  }

  /**
   * Restores the packets of chain `c`, which the caller then writes one by one. For a chain that the kernel refuses; at most
   * once for each chain of the last `close`.
   */
  split(c: number): void {
    const view = this.#view;
    const { first, entryOffset, entryBytes } = this;
    const payload = this.#payload[c]!;
    const from = first[c]!;
    if (this.#segments[c]! === 1) return;
    this.#restore(c, entryBytes[from]! - VIRTIO_HEADER_BYTES);
    writeHeader(view, entryOffset[from]!, 0, 0, 0, 0);
    for (let entry = from + 1; entry < first[c + 1]!; entry++) {
      const at = entryOffset[entry]! - payload - VIRTIO_HEADER_BYTES;
      writeHeader(view, at, 0, 0, 0, 0);
      entryOffset[entry] = at;
      entryBytes[entry] = entryBytes[entry]! + payload + VIRTIO_HEADER_BYTES;
    }
  }

  /** Starts a chain with the packet whose headers were parsed last. */
  #begin(offset: number, bytes: number, offload: number): number {
    const chain = this.#chains++;
    const { l3, l4, check, payload, end } = this.#headers;
    this.#head[chain] = offset;
    this.#segments[chain] = 1;
    this.#l3[chain] = l3;
    this.#l4[chain] = l4;
    this.#payload[chain] = payload;
    this.#size[chain] = end - payload;
    this.#total[chain] = end - payload;
    this.#stage(offset, bytes, chain);
    writeHeader(this.#view, offset - VIRTIO_HEADER_BYTES, offload, l4, check, payload);
    return chain;
  }

  #stage(offset: number, bytes: number, chain: number): void {
    const p = this.#packets++;
    this.#offset[p] = offset;
    this.#bytes[p] = bytes;
    this.#chain[p] = chain;
  }

  /** @returns whether the chain can grow further */
  #append(chain: number, offset: number, bytes: number, flags: number): boolean {
    const { payload, end } = this.#headers;
    const count = end - payload;
    const segments = this.#segments[chain]! + 1;
    this.#stage(offset, bytes, chain);
    this.#segments[chain] = segments;
    this.#total[chain] = this.#total[chain]! + count;
    this.#sequence[chain] = this.#sequence[chain]! + count;
    this.#flags[chain] = flags & LAST;
    return count === this.#size[chain] && (flags & LAST) === 0 && segments < MAX_SEGMENTS;
  }

  #find(hash: number): number {
    for (let i = 0; i < OPEN_CHAINS; i++) {
      if (this.#hash[i] === hash && this.#open[i] !== NONE) return i;
    }
    return NONE;
  }

  /** Takes a free place, or the oldest chain's. */
  #keepOpen(chain: number, hash: number): void {
    const open = this.#open;
    let place = 0;
    // NONE is less than every chain's number, and chains are numbered in order.
    for (let i = 1; i < OPEN_CHAINS; i++) if (open[i]! < open[place]!) place = i;
    open[place] = chain;
    this.#hash[place] = hash;
    const at = this.#head[chain]! + this.#l4[chain]!;
    this.#sequence[chain] = this.#view.getInt32(at + 4) + this.#size[chain]!;
    this.#flags[chain] = 0;
  }

  /** Whether the packet parsed last, at `offset`, continues the chain: not if it is of another flow with the same hash. */
  #continues(chain: number, offset: number): boolean {
    const view = this.#view;
    const { l3, l4, payload, end } = this.#headers;
    const count = end - payload;
    const total = this.#total[chain]! + count;
    if (this.#l3[chain] !== l3 || this.#l4[chain] !== l4 || this.#payload[chain] !== payload) return false;
    if (count > this.#size[chain]! || payload - l3 + total > MAX_IP_BYTES) return false;
    if (view.getInt32(offset + l4 + 4) !== this.#sequence[chain]) return false;

    return sameHeaders(view, this.#head[chain]!, offset, this.#headers, this.#segments[chain]!);
  }

  /** Whether the TCP checksum of the packet at `offset` is correct. Its header is where that of the packet parsed last is. */
  #verifies(offset: number, end: number, pseudo: number): boolean {
    const { l4 } = this.#headers;
    return checksum(pseudo + end - l4 + this.#ringOps.sum(offset + l4, end - l4)) === 0;
  }

  /** Verifies the head once, before its chain grows. The receiver verifies packets that pass alone. */
  #headVerifies(chain: number, pseudo: number): boolean {
    if (this.#pseudo[chain] !== 0) return true;
    if (!this.#verifies(this.#head[chain]!, this.#payload[chain]! + this.#size[chain]!, pseudo)) return false;
    this.#pseudo[chain] = pseudo;
    return true;
  }

  /** Makes the head's headers those of the large segment. */
  #finish(chain: number): void {
    const view = this.#view;
    const head = this.#head[chain]!;
    const l3 = this.#l3[chain]!;
    const l4 = this.#l4[chain]!;
    const payload = this.#payload[chain]!;
    const transport = payload - l4 + this.#total[chain]!;
    const tcp = head + l4;
    this.#checks[chain] = makeWhole(view, head + l3, tcp, transport, this.#pseudo[chain]!);
    view.setUint8(tcp + 13, view.getUint8(tcp + 13) | this.#flags[chain]!);
    const kind = view.getUint8(head + l3) >>> 4 === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6;
    const offload = offloadWord(this.#size[chain]!, kind, true);
    writeHeader(view, head - VIRTIO_HEADER_BYTES, offload, l4, l4 + 16, payload);
  }

  /** Undoes the changes of `#finish` in the head, a packet of `bytes` bytes. */
  #restore(chain: number, bytes: number): void {
    const view = this.#view;
    const head = this.#head[chain]!;
    const l4 = this.#l4[chain]!;
    const tcp = head + l4;
    makeSingle(view, head + this.#l3[chain]!, tcp, bytes - l4, this.#checks[chain]!);
    view.setUint8(tcp + 13, view.getUint8(tcp + 13) & ~LAST); // the head of a chain never had them
  }
}
