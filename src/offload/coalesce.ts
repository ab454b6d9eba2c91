/**
 * Merges consecutive TCP segments of a flow into large ones, as the kernel's GRO does (net/core/gro.c,
 * net/ipv4/tcp_offload.c), so that the kernel's stack runs once per chain and not once per frame.
 *
 * Payload is not copied. A chain is its first packet, whose headers are edited in place, and the payload of the
 * packets that follow it, to be written in one `writev`:
 *
 * ```
 *   head frame       [ virtio_net_hdr | headers | payload ]     first entry
 *   second frame     [     headers    | payload ]               second entry: payload only
 *   …
 * ```
 *
 * **Only what verifies is merged.** Whoever cuts a chain again, the kernel when it forwards one, makes the checksum
 * of each frame anew from what it finds, so a damaged part would leave with a checksum that is right. Each packet's
 * TCP and IPv4 checksums are verified before it is merged or merged into; one with a wrong checksum passes alone, byte
 * for byte, for its receiver to refuse. The kernel does the same (tcp_gro_receive behind skb_gro_checksum_validate).
 * The large segment then carries the sum of the pseudo header and the request to finish it (CHECKSUM_PARTIAL, as
 * tcp_gro_complete leaves it), which spares the kernel another sum over the data.
 *
 * **Order holds within a flow.** Chains come out in the order of their first packets. A packet that cannot
 * continue its flow's chain ends it and starts another place; one whose flow cannot be told, a fragment, ends
 * all.
 *
 * What is merged: TCP over IPv4 without options or IPv6 without extension headers, with the next sequence number
 * and otherwise the same headers, Ethernet, VLAN tags, acknowledgement, window and options included. Only
 * lengths, checksums and the IPv4 identification may differ; that one must count up unless DF is set, when it
 * has no meaning (RFC 6864). All parts but the last carry the same payload; PSH or FIN is the last one's.
 *
 * 160 ns for a packet of 1448 bytes on Node 20, 40 of them to sum it, and 40 for one that passes alone, which is
 * not verified. Allocates nothing per packet. Belongs to one thread.
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
 * Parts of a chain: the entries of one `writev` in the shim. 45 full Ethernet frames are what fits an IP packet;
 * smaller segments, of tunnels and narrow paths, come to more.
 */
export const MAX_SEGMENTS = 64;
/** The most that an IPv4 header can say; for IPv6 a little less than it could. */
const MAX_IP_BYTES = 0xffff;
/** Flows that are followed at once, as many as fit a cache line; GRO has as many hash buckets. */
const OPEN_CHAINS = 8;
const NONE = -1;

const { TCP } = Protocol;
const { ACK, PSH, FIN, ECE } = TcpFlag;
const LAST = PSH | FIN;
const UNMERGED = 0xff & ~(ACK | ECE | LAST);

export class Coalescer {
  readonly capacity: number;
  /** After `close`: entry `first[c]` is chain c's first, entry `first[c + 1]` the next chain's. */
  readonly first: Int32Array;
  /** After `close`: where each entry starts in the shared memory and how many bytes it has. */
  readonly entryOffset: Int32Array;
  readonly entryBytes: Int32Array;

  readonly #view: DataView;
  readonly #ringOps: RingOperations;
  readonly #headers = new Headers();

  /** Per packet: where it lies, and its chain. */
  readonly #offset: Int32Array;
  readonly #bytes: Int32Array;
  readonly #chain: Int32Array;
  #packets = 0;

  /** Per chain. The places are those of every packet in it. */
  readonly #head: Int32Array;
  readonly #pieces: Int32Array;
  readonly #l3: Int32Array;
  readonly #l4: Int32Array;
  readonly #payload: Int32Array;
  /** Payload bytes of each piece but the last, and of all of them. */
  readonly #size: Int32Array;
  readonly #total: Int32Array;
  /** Sum of the pseudo header but for the length; 0, which no address gives, until the head's checksum is verified. */
  readonly #pseudo: Int32Array;
  /** What `close` has replaced in the head: its IPv4 and its TCP checksum. */
  readonly #checks: Int32Array;
  /** Sequence number after the last piece, and that one's PSH and FIN. */
  readonly #sequence: Int32Array;
  readonly #flags: Int32Array;
  #chains = 0;

  /** Chains that may go on, and the hash of their flow; NONE where there is none. */
  readonly #open = new Int32Array(OPEN_CHAINS).fill(NONE);
  readonly #hash = new Int32Array(OPEN_CHAINS);

  /** @param capacity packets between two `close` */
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
    this.#pieces = array();
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
   * Takes the packet of `bytes` bytes at `offset`, to be handed to the kernel. It must stay as it is until
   * `close`, and the {@link VIRTIO_HEADER_BYTES} before it are overwritten.
   *
   * @param offload its offload word; a packet with one passes alone
   * @returns false if it was not taken: `capacity` is used up, or its offload word does not go with its headers
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
   * Ends every chain and lays the results out: `first`, `entryOffset` and `entryBytes`, good until the next
   * call of `close`. Each packet is one entry, so that whoever has written them can free each entry's frame.
   * A chain's first entry starts with the virtio header. The next `add` begins anew.
   *
   * @returns how many chains there are
   */
  close(): number {
    const { first, entryOffset, entryBytes } = this;
    const chains = this.#chains;
    // Where the chain's next packet goes; begins at its first entry and ends at the next chain's.
    const cursor = this.#sequence;
    let entries = 0;
    for (let c = 0; c < chains; c++) {
      first[c] = entries;
      cursor[c] = entries;
      entries += this.#pieces[c]!;
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
    for (let c = 0; c < chains; c++) if (this.#pieces[c]! > 1) this.#finish(c);
    this.#packets = 0;
    this.#chains = 0;
    this.#open.fill(NONE);
    return chains;
  }

  /**
   * Makes the packets of chain `c` ordinary ones again, each as it came: its entries are written one by one then. For
   * what the kernel does not take whole; once for each chain of the last `close`.
   */
  split(c: number): void {
    const view = this.#view;
    const { first, entryOffset, entryBytes } = this;
    const payload = this.#payload[c]!;
    const from = first[c]!;
    if (this.#pieces[c]! === 1) return;
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
    this.#pieces[chain] = 1;
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

  /** @returns whether the chain may still go on */
  #append(chain: number, offset: number, bytes: number, flags: number): boolean {
    const { payload, end } = this.#headers;
    const count = end - payload;
    const pieces = this.#pieces[chain]! + 1;
    this.#stage(offset, bytes, chain);
    this.#pieces[chain] = pieces;
    this.#total[chain] = this.#total[chain]! + count;
    this.#sequence[chain] = this.#sequence[chain]! + count;
    this.#flags[chain] = flags & LAST;
    return count === this.#size[chain] && (flags & LAST) === 0 && pieces < MAX_SEGMENTS;
  }

  #find(hash: number): number {
    for (let i = 0; i < OPEN_CHAINS; i++) {
      if (this.#hash[i] === hash && this.#open[i] !== NONE) return i;
    }
    return NONE;
  }

  /** In a free place, or that of the chain begun first. */
  #keepOpen(chain: number, hash: number): void {
    const open = this.#open;
    let place = 0;
    // NONE is below all chains, and chains count up.
    for (let i = 1; i < OPEN_CHAINS; i++) if (open[i]! < open[place]!) place = i;
    open[place] = chain;
    this.#hash[place] = hash;
    const at = this.#head[chain]! + this.#l4[chain]!;
    this.#sequence[chain] = this.#view.getInt32(at + 4) + this.#size[chain]!;
    this.#flags[chain] = 0;
  }

  /** Whether the packet parsed last, at `offset`, is the chain's next. A flow of the same hash never is. */
  #continues(chain: number, offset: number): boolean {
    const view = this.#view;
    const { l3, l4, payload, end } = this.#headers;
    const count = end - payload;
    const total = this.#total[chain]! + count;
    if (this.#l3[chain] !== l3 || this.#l4[chain] !== l4 || this.#payload[chain] !== payload) return false;
    if (count > this.#size[chain]! || payload - l3 + total > MAX_IP_BYTES) return false;
    if (view.getInt32(offset + l4 + 4) !== this.#sequence[chain]) return false;

    return sameHeaders(view, this.#head[chain]!, offset, this.#headers, this.#pieces[chain]!);
  }

  /** Whether the TCP checksum of the packet at `offset`, with its header where that of the last one is, is right. */
  #verifies(offset: number, end: number, pseudo: number): boolean {
    const { l4 } = this.#headers;
    return checksum(pseudo + end - l4 + this.#ringOps.sum(offset + l4, end - l4)) === 0;
  }

  /** Once for a chain, when it is about to grow: what passes alone is verified by whoever receives it. */
  #headVerifies(chain: number, pseudo: number): boolean {
    if (this.#pseudo[chain] !== 0) return true;
    if (!this.#verifies(this.#head[chain]!, this.#payload[chain]! + this.#size[chain]!, pseudo)) return false;
    this.#pseudo[chain] = pseudo;
    return true;
  }

  /** Makes the head's headers those of the whole. */
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

  /** Undoes what `#finish` did to the headers of the head, a packet of `bytes` bytes. */
  #restore(chain: number, bytes: number): void {
    const view = this.#view;
    const head = this.#head[chain]!;
    const l4 = this.#l4[chain]!;
    const tcp = head + l4;
    makeSingle(view, head + this.#l3[chain]!, tcp, bytes - l4, this.#checks[chain]!);
    view.setUint8(tcp + 13, view.getUint8(tcp + 13) & ~LAST); // a chain's head has neither
  }
}
