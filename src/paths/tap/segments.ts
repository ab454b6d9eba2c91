/**
 * Large segments of the machine's own stack, sent by the NetVSC as they are: its driver cuts them (TSO), or the
 * kernel does so for it. Cutting one of 64 KiB here costs 45 writes to the tap, each with its way through the
 * kernel; this costs one.
 *
 * By a packet socket with PACKET_VNET_HDR (net/packet/af_packet.c, packet_snd) and our mark, which the egress
 * program of inline mode lets pass: see paths/host/tie.ts. The tap would do as well, but then every other packet
 * of its had a header too. A segment is sent when the call returns, behind what the tap was given before.
 */
import { MARK } from '../../kernel/programs.ts';
import { addressOf, type Shim } from '../../kernel/shim.ts';
import { PathSlot } from '../../memory/layout.ts';
import { CHECKSUM_UNFINISHED, segmentation } from '../../memory/offload.ts';
import type { Memory } from '../../memory/shared.ts';
import { Headers, pseudoSum, TCP, TcpFlag } from '../../offload/headers.ts';
import { isKind } from '../../offload/segment.ts';
import { fold } from '../../offload/sum.ts';
import { GSO_ECN, VIRTIO_HEADER_BYTES, writeHeader } from '../../offload/virtio.ts';
import type { QueueAddress } from '../path.ts';

/** include/uapi/linux/{socket,if_packet}.h, asm-generic/socket.h */
const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK = 3 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SO_MARK = 36;
const SOL_PACKET = 263;
const PACKET_VNET_HDR = 15;
/** struct sockaddr_ll: family, protocol, ifindex, … */
const SOCKADDR_LL = 20;

/** What a device may have in hand before segments are cut here again: a socket's default is two of them. */
const SEND_BYTES = 4 * 1024 * 1024;

/**
 * A socket that sends by the device and receives nothing. Nonblocking. Coordinator only.
 *
 * @returns the descriptor, or 0 where the kernel has no packet sockets or keeps them from us: segments are cut here
 *   then
 */
export function openSegmentSocket(shim: Shim, ifindex: number): number {
  const fd = shim.socket(AF_PACKET, SOCK_RAW_NONBLOCK, 0);
  if (fd < 0) return 0;
  const set = (level: number, option: number, value: number): boolean =>
    shim.setsockopt(fd, level, option, new Int32Array([value]), 4) === 0;
  const address = new DataView(new ArrayBuffer(SOCKADDR_LL));
  address.setUint16(0, AF_PACKET, true);
  address.setInt32(4, ifindex, true);
  const usable =
    set(SOL_PACKET, PACKET_VNET_HDR, 1) &&
    set(SOL_SOCKET, SO_MARK, MARK) &&
    set(SOL_SOCKET, SO_SNDBUFFORCE, SEND_BYTES) &&
    shim.bind(fd, address, SOCKADDR_LL) === 0;
  if (usable) return fd;
  shim.close(fd);
  return 0;
}

/** The sending end. Worker only; allocates nothing. */
export class SegmentSender {
  readonly #shim: Shim;
  readonly #fd: number;
  readonly #view: DataView;
  /** Address of the shared memory; `#view` keeps it alive. */
  readonly #base: number;
  readonly #headers = new Headers();

  private constructor(shim: Shim, memory: Memory, fd: number) {
    this.#shim = shim;
    this.#fd = fd;
    this.#view = memory.view;
    this.#base = addressOf(memory.bytes);
  }

  /** By the socket that the path slot names; undefined if it names none. */
  static of(shim: Shim, memory: Memory, { port, queue, path }: QueueAddress): SegmentSender | undefined {
    const fd = memory.words[(memory.layout.slot(port, queue, path) + PathSlot.segmentsFd) >> 2]!;
    return fd > 0 ? new SegmentSender(shim, memory, fd) : undefined;
  }

  /**
   * Sends the segment, whose offload word says how it is to be cut. The {@link VIRTIO_HEADER_BYTES} before it are
   * overwritten.
   *
   * @returns whether it went. If not, nothing of it did: the device has too much in hand, or is gone, or it is no
   *   segment that this knows
   */
  send(offset: number, bytes: number, offload: number): boolean {
    const view = this.#view;
    const headers = this.#headers;
    if (!headers.parse(view, offset, bytes) || !isKind(segmentation(offload), headers)) return false;
    const { l4, check, payload, end, protocol } = headers;
    // A handler may have changed an address since the stack summed the pseudo header.
    view.setUint16(offset + check, fold(pseudoSum(view, offset, headers) + end - l4));
    writeHeader(view, offset - VIRTIO_HEADER_BYTES, offload | CHECKSUM_UNFINISHED, l4, check, payload);
    if (protocol === TCP && (view.getUint8(offset + l4 + 13) & TcpFlag.CWR) !== 0) {
      view.setUint8(offset - VIRTIO_HEADER_BYTES + 1, segmentation(offload) | GSO_ECN);
    }
    const length = bytes + VIRTIO_HEADER_BYTES;
    return this.#shim.write(this.#fd, this.#base + offset - VIRTIO_HEADER_BYTES, length) === length;
  }
}
