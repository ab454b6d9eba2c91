/**
 * Sends large segments of the machine's own stack uncut: the device's driver cuts them (TSO), or the kernel does it. Cutting
 * a segment of 64 KiB here costs 45 frames, each with its own way through the kernel. Sending it uncut costs one.
 *
 * It uses a packet socket with PACKET_VNET_HDR (net/packet/af_packet.c, packet_snd), which is bound to the device and
 * receives nothing. Two kinds:
 *
 * - **marked**, for the NetVSC: with our mark, which the egress program of inline mode passes (host/redirect.ts). The tap
 *   could send segments too, but only if all its packets had a header.
 * - **direct**, for a VF with AF_XDP in copy mode: it bypasses the qdisc, as AF_XDP does. Both end in __dev_direct_xmit
 *   (net/core/dev.c) before the system call returns, so the driver gets packets in the order of the calls.
 *
 * A segment that was sent is with the device and cannot be taken back, like a frame that the kernel has read from a transmit
 * ring in copy mode. A segment that was not sent is unchanged, and is cut and sent as frames.
 *
 * NB: a direct socket has no queue of its own. In packet_pick_tx_queue the driver, XPS or the CPU's number selects one; an
 * AF_XDP socket sends on the queue that it is bound to. If the two differ, the device may reorder a frame and a segment.
 */
import { errnoName } from '../errors.ts';
import { MARK } from '../kernel/programs.ts';
import { addressOf, type Shim } from '../kernel/shim.ts';
import { type CounterIndex, type PathCounter, pathCounters } from '../memory/counters.ts';
import type { QueueAddress } from '../memory/layout.ts';
import { CHECKSUM_UNFINISHED, keepsPseudo, segmentation, segmentBytes } from '../memory/offload.ts';
import type { Memory } from '../memory/shared.ts';
import { fold } from '../net/checksum.ts';
import { Headers, pseudoSum, TcpFlag } from '../net/headers.ts';
import { Protocol } from '../net/ip.ts';
import { isKind } from '../offload/segment.ts';
import { GSO_ECN, VIRTIO_HEADER_BYTES, writeHeader } from '../offload/virtio.ts';

/** include/uapi/linux/{socket,if_packet}.h, asm-generic/socket.h */
const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_MARK = 36;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
const PACKET_QDISC_BYPASS = 20;
/** struct sockaddr_ll: family, protocol, ifindex, … */
const SOCKADDR_LL = 20;

/** Bytes that the device may have unsent before segments are cut here again. A socket's default is two segments. */
const SEND_BYTES = 4 * 1024 * 1024;

/** Maximum of segments that are cut untried after a refusal: an attempt costs as much as sending. */
const MAX_PAUSE = 1024;

/** Greater than each value of Segmentation. */
const KINDS = 8;

/**
 * Opens a nonblocking socket that sends through the device and receives nothing. Coordinator only.
 *
 * @returns the descriptor, or a negative errno if the kernel has or permits no packet sockets: segments are then cut here
 */
export function openSegmentSocket(shim: Shim, ifindex: number, kind: 'marked' | 'direct'): number {
  const fd = shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0);
  if (fd < 0) return fd;
  const address = new DataView(new ArrayBuffer(SOCKADDR_LL));
  address.setUint16(0, AF_PACKET, true);
  address.setInt32(4, ifindex, true);
  const set = (level: number, option: number, value: number) => (): number =>
    shim.setsockopt(fd, level, option, new Int32Array([value]), 4);
  for (const step of [
    set(SOL_PACKET, PACKET_VNET_HDR, 1),
    kind === 'marked' ? set(SOL_SOCKET, SO_MARK, MARK) : set(SOL_PACKET, PACKET_QDISC_BYPASS, 1),
    set(SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES),
    () => shim.bind(fd, address, SOCKADDR_LL),
  ]) {
    const result = step();
    if (result >= 0) continue;
    shim.close(fd);
    return result;
  }
  return fd;
}

/** For a path's description. @param fd the result of {@link openSegmentSocket}; 0 if it was not called */
export function segmentsNote(fd: number): string {
  if (fd === 0) return '';
  return fd > 0
    ? ', packet socket for large segments'
    : `, large segments cut (packet socket refused: ${errnoName(fd)})`;
}

/** Sends segments through that socket. Worker only; allocates nothing. */
export class SegmentSender {
  readonly #shim: Shim;
  readonly #fd: number;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #maxPacketBytesAt: number;
  readonly #doubles: Float64Array;
  readonly #counter: CounterIndex<PathCounter>;
  /** Address and bytes of the shared memory; `#view` keeps it alive. */
  readonly #base: number;
  readonly #room: number;
  readonly #headers = new Headers();
  /**
   * How many segments are cut before the next attempt, and how many after the next refusal. One each for every kind of
   * segmentation: a device may cut TCP and not UDP.
   */
  readonly #pause = new Int32Array(KINDS);
  readonly #nextPause = new Int32Array(KINDS).fill(1);

  private constructor(shim: Shim, memory: Memory, address: QueueAddress, fd: number) {
    const { port, queue, path } = address;
    this.#shim = shim;
    this.#fd = fd;
    this.#view = memory.view;
    this.#words = memory.words;
    this.#maxPacketBytesAt = memory.slot(address).at('maxPacketBytes');
    this.#doubles = memory.doubles;
    this.#counter = pathCounters(memory, port, queue, path);
    this.#base = addressOf(memory.bytes);
    this.#room = memory.bytes.byteLength;
  }

  /** With the socket in the path slot; undefined if it has none. */
  static of(shim: Shim, memory: Memory, address: QueueAddress): SegmentSender | undefined {
    const fd = memory.slot(address).segmentsFd;
    return fd > 0 ? new SegmentSender(shim, memory, address, fd) : undefined;
  }

  /**
   * Sends the segment, whose offload word says how to cut it, and counts it as a packet of the path. Overwrites the
   * {@link VIRTIO_HEADER_BYTES} before it.
   *
   * @returns whether it was sent, whole. If not: the device has too many bytes unsent, or is gone, or refuses segments; or
   *   the pieces would be longer than the device sends; or it is not a segment of a known kind. After a refusal the next
   *   segment of that kind is not tried, after a second refusal in a row the next two, then four, and so on
   */
  send(offset: number, bytes: number, offload: number): boolean {
    const view = this.#view;
    const headers = this.#headers;
    const kind = segmentation(offload);
    if (!headers.parse(view, offset, bytes) || !isKind(kind, headers)) return false;
    if (this.#pause[kind]! > 0) {
      this.#pause[kind]!--;
      return false;
    }
    const { l4, check, payload, end, protocol } = headers;
    if (payload + Math.min(segmentBytes(offload), end - payload) > this.#words[this.#maxPacketBytesAt]!)
      return false;
    if (!keepsPseudo(offload)) {
      // A handler may have changed an address since the stack summed the pseudo header.
      view.setUint16(offset + check, fold(pseudoSum(view, offset, headers) + end - l4));
    }
    writeHeader(view, offset - VIRTIO_HEADER_BYTES, offload | CHECKSUM_UNFINISHED, l4, check, payload);
    if (protocol === Protocol.TCP && (view.getUint8(offset + l4 + 13) & TcpFlag.CWR) !== 0) {
      view.setUint8(offset - VIRTIO_HEADER_BYTES + 1, kind | GSO_ECN);
    }
    const length = bytes + VIRTIO_HEADER_BYTES;
    const at = offset - VIRTIO_HEADER_BYTES;
    const sent = this.#shim.writeAt(this.#fd, this.#base, this.#room, at, length) === length;
    this.#count(sent, kind, bytes);
    return sent;
  }

  #count(sent: boolean, kind: number, bytes: number): void {
    const doubles = this.#doubles;
    const counter = this.#counter;
    if (sent) {
      doubles[counter.txPosted]!++;
      doubles[counter.txPackets]!++;
      doubles[counter.txBytes]! += bytes;
      doubles[counter.txSegments]!++;
      this.#nextPause[kind] = 1;
    } else {
      doubles[counter.txSegmentsRefused]!++;
      const pause = this.#nextPause[kind]!;
      this.#pause[kind] = pause;
      this.#nextPause[kind] = Math.min(2 * pause, MAX_PAUSE);
    }
  }
}
