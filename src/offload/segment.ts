/**
 * Segments one large TCP segment, or UDP_SEGMENT datagram, into frames, as a NIC with TSO does, or the kernel's
 * tcp_gso_segment, __udp_gso_segment and inet_gso_segment (net/ipv4/).
 *
 * Each frame gets the packet's headers, with its own lengths, IPv4 identification (incremented), sequence number and
 * checksums. IPv4 options and IPv6 extension headers are repeated. Only the last frame has FIN and PSH, and only the first
 * has CWR. NB: the new checksums would hide a wrong one, so only packets with an unfinished checksum come here; `readHeader`
 * (virtio.ts) ensures that.
 *
 * A frame with 1448 bytes of payload costs 190 ns on Node 20: 75 to copy, 40 to sum, the rest for headers and because 64
 * KiB do not fit the first cache.
 *
 * Allocates nothing. Belongs to one thread.
 */

import { keepsPseudo, Segmentation, segmentation, segmentBytes } from '../memory/offload.ts';
import { type RingOperations, ringOperationsOf } from '../memory/ring-operations.ts';
import type { Memory } from '../memory/shared.ts';
import { checksum, sum } from '../net/checksum.ts';
import { Headers, pseudoSum, TcpFlag } from '../net/headers.ts';
import { Protocol } from '../net/ip.ts';
import { IPV6_BYTES } from '../net/ipv6.ts';

/** Copies: V8 loads and checks an imported value with each use. */
const { TCP, UDP } = Protocol;
const FIXED_IPV6 = IPV6_BYTES;

export class Segmenter {
  readonly #view: DataView;
  readonly #ringOps: RingOperations;
  readonly #bytes: Uint8Array;
  readonly #headers = new Headers();
  /** The packet's first byte, in the shared memory. */
  #offset = 0;
  /** Payload bytes of the packet, and of each frame but the last. */
  #total = 0;
  #size = 0;
  #segments = 0;
  #identification = 0;
  #sequence = 0;
  #flags = 0;
  /** Sums of the IPv4 header, and of pseudo header and transport header, without the fields that differ by frame. */
  #ipSum = 0;
  #transportSum = 0;

  constructor(memory: Memory) {
    this.#view = memory.view;
    this.#ringOps = ringOperationsOf(memory);
    this.#bytes = memory.bytes;
  }

  /**
   * Parses the packet of `bytes` bytes at `offset`, which must not change until the last `write`.
   *
   * @param offload its offload word, see memory/offload.ts
   * @param room most bytes of a frame
   * @returns the number of frames; 0 if the packet cannot be segmented: the kind of segmentation is unknown or does not fit
   *   the headers, {@link Headers} cannot parse them, or frames would be longer than `room`
   */
  begin(offset: number, bytes: number, offload: number, room: number): number {
    const view = this.#view;
    const headers = this.#headers;
    const size = segmentBytes(offload);
    this.#segments = 0;
    if (size === 0 || !headers.parse(view, offset, bytes) || !isKind(segmentation(offload), headers))
      return 0;
    const { l4, payload, end } = headers;
    const total = end - payload;
    if (payload + Math.min(size, total) > room) return 0;
    this.#offset = offset;
    this.#total = total;
    this.#size = size;
    this.#segments = Math.max(1, Math.ceil(total / size));

    if (headers.version === 4) this.#beginIpv4(offset + headers.l3, l4 - headers.l3);
    const at = offset + l4;
    let transport = sum(view, at, 4, this.#pseudo(offset, offload));
    if (headers.protocol === TCP) {
      this.#sequence = view.getUint32(at + 4);
      this.#flags = view.getUint8(at + 13);
      transport += (view.getUint8(at + 12) << 8) + view.getUint16(at + 14);
      transport = sum(view, at + 18, payload - l4 - 18, sum(view, at + 8, 4, transport));
    }
    this.#transportSum = transport;
    return this.#segments;
  }

  /**
   * Writes frame `i` to `target`: `room` bytes of the same memory that do not overlap the packet. The order of frames is
   * free.
   *
   * @returns its length
   */
  write(i: number, target: number): number {
    const bytes = this.#bytes;
    const { l3, l4, payload, version, protocol } = this.#headers;
    const offset = this.#offset;
    const start = i * this.#size;
    const count = Math.min(this.#size, this.#total - start);
    const from = offset + payload + start;
    bytes.copyWithin(target, offset, offset + payload);
    bytes.copyWithin(target + payload, from, from + count);

    const transport = payload - l4 + count;
    if (version === 4) this.#writeIpv4(target + l3, l4 - l3 + transport, i);
    else this.#view.setUint16(target + l3 + 4, l4 - l3 - FIXED_IPV6 + transport);
    const total = this.#transportSum + transport + this.#ringOps.sum(target + payload, count);
    if (protocol === TCP) this.#writeTcp(target + l4, i, total);
    else this.#writeUdp(target + l4, transport, total);
    return payload + count;
  }

  /** Sum of the pseudo header without the length. The checksum field has it with the length of the whole packet. */
  #pseudo(offset: number, offload: number): number {
    const headers = this.#headers;
    if (!keepsPseudo(offload)) return pseudoSum(this.#view, offset, headers);
    return this.#view.getUint16(offset + headers.check) + (~(headers.end - headers.l4) & 0xffff);
  }

  #beginIpv4(at: number, count: number): void {
    const view = this.#view;
    this.#identification = view.getUint16(at + 4);
    this.#ipSum = sum(view, at + 12, count - 12, sum(view, at + 6, 4, view.getUint16(at)));
  }

  #writeIpv4(at: number, length: number, i: number): void {
    const view = this.#view;
    const identification = (this.#identification + i) & 0xffff;
    view.setUint16(at + 2, length);
    view.setUint16(at + 4, identification);
    view.setUint16(at + 10, checksum(this.#ipSum + length + identification));
  }

  #writeTcp(at: number, i: number, total: number): void {
    const view = this.#view;
    const sequence = (this.#sequence + i * this.#size) >>> 0;
    let flags = this.#flags;
    if (i > 0) flags &= ~TcpFlag.CWR;
    if (i < this.#segments - 1) flags &= ~(TcpFlag.FIN | TcpFlag.PSH);
    view.setUint32(at + 4, sequence);
    view.setUint8(at + 13, flags);
    view.setUint16(at + 16, checksum(total + (sequence >>> 16) + (sequence & 0xffff) + flags));
  }

  #writeUdp(at: number, length: number, total: number): void {
    this.#view.setUint16(at + 4, length);
    this.#view.setUint16(at + 6, checksum(total + length) || 0xffff); // 0 means "no checksum"
  }
}

/** Whether a {@link Segmentation} kind applies to a packet with these headers. */
export function isKind(kind: number, { version, protocol }: Headers): boolean {
  if (kind === Segmentation.UDP) return protocol === UDP;
  if (protocol !== TCP) return false;
  return kind === (version === 4 ? Segmentation.TCP_V4 : Segmentation.TCP_V6);
}
