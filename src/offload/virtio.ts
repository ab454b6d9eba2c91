/**
 * `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): the ten bytes that a tap with IFF_VNET_HDR puts
 * before each packet, in both directions.
 *
 * ```
 *   0  u8   flags        1: the checksum is unfinished; 2: somebody has verified it
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
  PSEUDO_KEPT,
  segmentation,
  segmentBytes,
} from '../memory/offload.ts';
import { checksum, fold, sum } from '../net/checksum.ts';
import { type Headers, pseudoSum } from '../net/headers.ts';
import { finishChecksumAt } from './finish.ts';

export const VIRTIO_HEADER_BYTES = 10;

const NEEDS_CSUM = 1;
const DATA_VALID = 2;
/** In the type of segmentation: CWR is set, and is for the first frame alone. */
export const GSO_ECN = 0x80;

/**
 * The offload word of the packet of `bytes` bytes at `offset`, from the header at `at`; -1 if the two
 * contradict each other and the packet is to be dropped. `headers` is room to work in.
 *
 * The word has no room for a checksum in an unusual place: behind IPv6 extension headers, or IPv4 options,
 * whose source route may stand for another destination in the pseudo header. Such a checksum is finished here, but
 * for a large segment, whose word says so where the sum in the field is not that of the IP header's addresses.
 */
export function readHeader(
  view: DataView,
  at: number,
  offset: number,
  bytes: number,
  headers: Headers,
): number {
  const flags = view.getUint8(at);
  const unfinished = (flags & NEEDS_CSUM) !== 0;
  const start = view.getUint16(at + 6, true);
  const check = start + view.getUint16(at + 8, true);
  const kind = view.getUint8(at + 1) & ~GSO_ECN;
  if (kind !== 0) {
    const size = view.getUint16(at + 4, true);
    if (size === 0) return -1;
    // What is not known here cannot be cut either.
    if (!headers.parse(view, offset, bytes)) return offloadWord(size, kind, unfinished);
    const word = offloadWord(size, kind, true);
    if (!unfinished) return reopen(view, offset, headers, (flags & DATA_VALID) !== 0) ? word : -1;
    if (headers.l4 !== start || headers.check !== check) return -1;
    if (headers.plain || view.getUint16(offset + check) === pseudoField(view, offset, headers)) return word;
    return word | PSEUDO_KEPT;
  }
  if (!unfinished) return 0;

  if (check + 2 > bytes) return -1;
  if (headers.parse(view, offset, bytes) && headers.l4 === start && headers.check === check) {
    if (headers.plain) return CHECKSUM_UNFINISHED;
  }
  finishChecksumAt(view, offset + start, bytes - start, offset + check);
  return 0;
}

/** What the field of an unfinished checksum holds. */
function pseudoField(view: DataView, offset: number, headers: Headers): number {
  return fold(pseudoSum(view, offset, headers) + headers.end - headers.l4);
}

/**
 * Makes the finished checksum of a large segment an unfinished one: whoever cuts it finishes one for each frame. The
 * kernel hands such a segment over only where a device has verified it (CHECKSUM_UNNECESSARY), and cuts it itself
 * otherwise; should it not, one that is wrong must not be made right.
 *
 * @returns whether it may be: it is known to be right, or it is
 */
function reopen(view: DataView, offset: number, headers: Headers, known: boolean): boolean {
  const { l4, check, end } = headers;
  const pseudo = pseudoSum(view, offset, headers) + end - l4;
  if (!known && checksum(sum(view, offset + l4, end - l4, pseudo)) !== 0) return false;
  view.setUint16(offset + check, fold(pseudo));
  return true;
}

/**
 * Writes the header of a packet with this offload word at `at`. The places, distances from the packet's first
 * byte, are those of {@link Headers} and only looked at if the word is not 0.
 *
 * A large segment always has its checksum unfinished here. The kernel would take TCP without (virtio_net_hdr_to_skb,
 * include/linux/virtio_net.h) and then, where it cuts the segment again, make checksums anew that nobody has verified.
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
