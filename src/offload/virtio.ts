/**
 * `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): the ten bytes that a tap with IFF_VNET_HDR puts
 * before each packet, in both directions.
 *
 * ```
 *   0  u8   flags        1: the checksum is unfinished
 *   1  u8   gso_type     Segmentation of memory/offload.ts; 0x80 more if CWR is set
 *   2  u16  hdr_len      bytes of headers, a hint
 *   4  u16  gso_size     payload bytes of a segment
 *   6  u16  csum_start   from the packet's first byte
 *   8  u16  csum_offset  of the checksum field, from there
 * ```
 *
 * In the machine's byte order by default (drivers/net/tun.c), which is little-endian wherever Twinpath runs.
 */
import {
  CHECKSUM_UNFINISHED,
  isUnfinished,
  offloadWord,
  segmentation,
  segmentBytes,
} from '../memory/offload.ts';
import { finishChecksumAt } from './finish.ts';
import type { Headers } from './headers.ts';

export const VIRTIO_HEADER_BYTES = 10;

const NEEDS_CSUM = 1;
/** In the type of segmentation: CWR is set, and is for the first frame alone. */
export const GSO_ECN = 0x80;
const IPV4_BYTES = 20;

/**
 * The offload word of the packet of `bytes` bytes at `offset`, from the header at `at`; -1 if the two
 * contradict each other and the packet is to be dropped. `headers` is room to work in.
 *
 * The word has no room for a checksum in an unusual place: behind IPv6 extension headers, or IPv4 options,
 * whose source route may stand for another destination in the pseudo header. Such a checksum is finished here.
 */
export function readHeader(
  view: DataView,
  at: number,
  offset: number,
  bytes: number,
  headers: Headers,
): number {
  const unfinished = (view.getUint8(at) & NEEDS_CSUM) !== 0;
  const kind = view.getUint8(at + 1) & ~GSO_ECN;
  if (kind !== 0) {
    const size = view.getUint16(at + 4, true);
    return size === 0 ? -1 : offloadWord(size, kind, unfinished);
  }
  if (!unfinished) return 0;

  const start = view.getUint16(at + 6, true);
  const check = start + view.getUint16(at + 8, true);
  if (check + 2 > bytes) return -1;
  if (headers.parse(view, offset, bytes) && headers.l4 === start && headers.check === check) {
    if (headers.version === 6 || headers.l4 - headers.l3 === IPV4_BYTES) return CHECKSUM_UNFINISHED;
  }
  finishChecksumAt(view, offset + start, bytes - start, offset + check);
  return 0;
}

/**
 * Writes the header of a packet with this offload word at `at`. The places, distances from the packet's first
 * byte, are those of {@link Headers} and only looked at if the word is not 0.
 *
 * A large segment without CHECKSUM_UNFINISHED carries a checksum over the whole of it, which the kernel
 * verifies before anybody sees the data: virtio_net_hdr_to_skb (include/linux/virtio_net.h) takes TCP so, and
 * UDP only unfinished.
 */
export function writeHeader(
  view: DataView,
  at: number,
  offload: number,
  l4: number,
  check: number,
  payload: number,
): void {
  const unfinished = isUnfinished(offload);
  const kind = segmentation(offload);
  view.setUint8(at, unfinished ? NEEDS_CSUM : 0);
  view.setUint8(at + 1, kind);
  view.setUint16(at + 2, kind === 0 ? 0 : payload, true);
  view.setUint16(at + 4, segmentBytes(offload), true);
  view.setUint16(at + 6, unfinished ? l4 : 0, true);
  view.setUint16(at + 8, unfinished ? check - l4 : 0, true);
}
