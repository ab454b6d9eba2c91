/**
 * Carries out what a handler has ordered for a packet with its verdict, in software: finishes checksums, cuts segments (TSO and
 * USO), and inserts a VLAN tag. The frames that leave are the same on both paths. Neither path has a way to give such an
 * order to its device: a tap has one only with a virtio-net header on every packet, and AF_XDP knows checksums of Linux 6.8 in
 * few drivers.
 *
 * An order of a packet that is cut holds for each of its frames. Order of packets stays. Belongs to the worker thread.
 */
import type { Burst } from '../handler/burst.ts';
import { isKept } from '../handler/handler.ts';
import { type CounterIndex, type QueueCounter, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { HEADROOM, RESERVED } from '../memory/layout.ts';
import { isUnfinished, segmentBytes } from '../memory/offload.ts';
import { checksum, sum } from '../net/checksum.ts';
import { ETHERNET_BYTES, EtherType, VLAN_TAG_BYTES } from '../net/ethernet.ts';
import { Headers } from '../net/headers.ts';
import { Ipv4Field } from '../net/ipv4.ts';
import { finishChecksum } from '../offload/finish.ts';
import { Segmenter } from '../offload/segment.ts';
import type { Scope } from './scope.ts';

/** Takes the packets. */
interface Carrier {
  /** Carries out the verdicts on packets `from` … `to` of the burst. */
  settleRange(from: number, to: number): void;
  /** Carries out one verdict on one packet in a frame. */
  carryOut(i: number, verdict: number, target: number, offset: number, length: number): void;
  takeFrame(): number;
  drop(offset: number, why: number): void;
  put(offset: number): void;
}

/** Bytes of the two MAC addresses. */
const ADDRESSES = 12;

export class TransmitOffloads {
  /** Where the packet of the last {@link apply} starts, and its bytes. */
  offset = 0;
  length = 0;
  readonly #burst: Burst;
  readonly #pool: FramePool;
  readonly #carrier: Carrier;
  readonly #segmenter: Segmenter;
  readonly #headers = new Headers();
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<QueueCounter>;
  readonly #frames: number;
  readonly #maxPacketBytes: number;

  constructor({ memory, pool, burst, port, queue }: Scope, carrier: Carrier) {
    this.#burst = burst;
    this.#pool = pool;
    this.#carrier = carrier;
    this.#segmenter = new Segmenter(memory);
    this.#view = memory.view;
    this.#bytes = memory.bytes;
    this.#doubles = memory.doubles;
    this.#counter = queueCounters(memory, port, queue);
    this.#frames = memory.layout.frames;
    this.#maxPacketBytes = memory.layout.geometry.frameSize - HEADROOM;
  }

  /** Carries out the orders, and then the verdicts, of the first `count` packets of the burst, which are in frames. */
  settle(count: number): void {
    const { offset, bytes, verdict, offload, tag } = this.#burst;
    let from = 0;
    for (let i = 0; i < count; i++) {
      if ((offload[i]! | tag[i]!) === 0 || !isKept(verdict[i]!)) continue;
      if (segmentBytes(offload[i]!) !== 0) {
        this.#carrier.settleRange(from, i);
        this.#cut(i);
        from = i + 1;
      } else if (this.apply(offset[i]!, bytes[i]!, offload[i]!, tag[i]!)) {
        offset[i] = this.offset;
        bytes[i] = this.length;
      } else {
        this.#carrier.settleRange(from, i);
        this.#carrier.drop(offset[i]!, this.#counter.dropBadOffload);
        from = i + 1;
      }
    }
    this.#carrier.settleRange(from, count);
  }

  /**
   * Carries out the orders on a packet that is not cut: {@link offset} and {@link length} say where it is then. A packet that is
   * too short for them stays as it is: it cannot be sent.
   *
   * @returns false if they do not fit the packet, which may be changed already
   */
  apply(offset: number, length: number, offload: number, tag: number): boolean {
    this.offset = offset;
    this.length = length;
    if (length < ETHERNET_BYTES) return true;
    if (isUnfinished(offload) && !this.#finish(offset, length)) return false;
    return tag === 0 || this.#insertTag(offset, length, tag);
  }

  /** The number of frames into which the packet is cut, each of at most `room` bytes with its tag; 0 if it cannot be. */
  beginCut(offset: number, length: number, offload: number, tag: number, room: number): number {
    return this.#segmenter.begin(offset, length, offload, tag === 0 ? room : room - VLAN_TAG_BYTES);
  }

  /** Writes the i-th of them into a frame, which has its headroom: {@link offset} and {@link length} say where it is then. */
  writePiece(i: number, frame: number, tag: number): void {
    this.apply(frame, this.#segmenter.write(i, frame), 0, tag);
  }

  #cut(i: number): void {
    const { offset, bytes, verdict, target, offload, tag } = this.#burst;
    const at = offset[i]!;
    const pieces = this.beginCut(at, bytes[i]!, offload[i]!, tag[i]!, this.#maxPacketBytes);
    if (pieces === 0) {
      this.#carrier.drop(at, this.#counter.dropBadOffload);
      return;
    }
    for (let piece = 0; piece < pieces; piece++) {
      if (piece > 0) this.#doubles[this.#counter.segments]!++;
      if (this.#pool.count === 0) {
        this.#doubles[this.#counter.dropNoFrame]!++;
        break;
      }
      this.writePiece(piece, this.#carrier.takeFrame(), tag[i]!);
      this.#carrier.carryOut(i, verdict[i]!, target[i]!, this.offset, this.length);
    }
    this.#carrier.put(at);
  }

  /** Writes the TCP or UDP checksum, and that of an IPv4 header. */
  #finish(offset: number, length: number): boolean {
    const view = this.#view;
    const headers = this.#headers;
    if (!headers.parse(view, offset, length)) return false;
    if (headers.version === 4) {
      const ip = offset + headers.l3;
      view.setUint16(ip + Ipv4Field.CHECKSUM, 0);
      view.setUint16(ip + Ipv4Field.CHECKSUM, checksum(sum(view, ip, headers.l4 - headers.l3)));
    }
    finishChecksum(view, offset, headers);
    return true;
  }

  /** Moves the addresses into the headroom; without headroom, moves the rest of the packet towards the end of the frame. */
  #insertTag(offset: number, length: number, tag: number): boolean {
    const { frameSize } = this.#pool;
    const before = (offset - this.#frames) & (frameSize - 1);
    const view = this.#view;
    let start = offset;
    if (before >= RESERVED + VLAN_TAG_BYTES) {
      start = offset - VLAN_TAG_BYTES;
      this.#bytes.copyWithin(start, offset, offset + ADDRESSES);
    } else if (before + length + VLAN_TAG_BYTES <= frameSize) {
      const rest = offset + ADDRESSES;
      this.#bytes.copyWithin(rest + VLAN_TAG_BYTES, rest, offset + length);
    } else return false;
    view.setUint16(start + ADDRESSES, EtherType.VLAN);
    view.setUint16(start + ADDRESSES + 2, tag & 0xffff);
    this.offset = start;
    this.length = length + VLAN_TAG_BYTES;
    return true;
  }
}
