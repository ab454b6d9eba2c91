/**
 * `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h): the ten bytes in front of each packet on a tap with
 * IFF_VNET_HDR, in both directions.
 *
 * ```
 *   0  u8   flags        1: the checksum is unfinished; 2: it has been verified
 *   1  u8   gso_type     Segmentation of memory/offload.ts; 0x80 more if CWR is set
 *   2  u16  hdr_len      bytes of headers, a hint
 *   4  u16  gso_size     payload bytes of a segment
 *   6  u16  csum_start   from the packet's first byte
 *   8  u16  csum_offset  of the checksum field, from there
 * ```
 *
 * By default the fields have the machine's byte order (drivers/net/tun.c), which is little-endian where Twinpath runs.
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
/** In gso_type: CWR is set, and belongs to the first frame only. */
export const GSO_ECN = 0x80;

/**
 * Makes the offload word of the packet of `bytes` bytes at `offset` from the header at `at`. `headers` is scratch space.
 *
 * The word cannot describe a checksum after IPv6 extension headers or IPv4 options, whose source route may put another
 * destination into the pseudo header. So this function finishes such a checksum. In a large segment it leaves it: the word
 * then says if the sum in the field is not that of the IP header's addresses.
 *
 * @returns the word, or -1 if header and packet contradict each other: then the packet must be dropped
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
    // The segmenter cannot parse these headers either.
    if (!headers.parse(view, offset, bytes)) return offloadWord(size, kind, unfinished);
    const word = offloadWord(size, kind, true);
    if (!unfinished) return makeUnfinished(view, offset, headers, (flags & DATA_VALID) !== 0) ? word : -1;
    if (headers.l4 !== start || headers.check !== check) return -1;
    if (headers.plain || view.getUint16(offset + check) === unfinishedField(view, offset, headers))
      return word;
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

/** The value of an unfinished checksum field. */
function unfinishedField(view: DataView, offset: number, headers: Headers): number {
  return fold(pseudoSum(view, offset, headers) + headers.end - headers.l4);
}

/**
 * Makes the finished checksum of a large segment an unfinished one, because segmenting finishes one for each frame. The
 * kernel passes on such a segment only if a device has verified it (CHECKSUM_UNNECESSARY), and otherwise segments it
 * itself. If a kernel does not, a wrong checksum must stay wrong, so it is checked here.
 *
 * @returns false if the checksum is wrong
 */
function makeUnfinished(view: DataView, offset: number, headers: Headers, verified: boolean): boolean {
  const { l4, check, end } = headers;
  const pseudo = pseudoSum(view, offset, headers) + end - l4;
  if (!verified && checksum(sum(view, offset + l4, end - l4, pseudo)) !== 0) return false;
  view.setUint16(offset + check, fold(pseudo));
  return true;
}

/**
 * Writes the header of a packet with this offload word at `at`. The positions are those of {@link Headers}; they are not
 * used if the word is 0.
 *
 * The checksum of a large segment is always unfinished here. The kernel would accept TCP with a finished one
 * (virtio_net_hdr_to_skb, include/linux/virtio_net.h), but if it segments the packet again, it makes new checksums without
 * verifying the old one.
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
