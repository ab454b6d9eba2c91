/**
 * Finishes checksums that a kernel stack has left to its device (CHECKSUM_PARTIAL, include/linux/skbuff.h).
 *
 * Such a field holds the folded sum of the pseudo header, not complemented. The checksum is the complement of the sum from
 * the transport header to the end of the packet, including that field. Neither function writes 0, which in UDP means "no
 * checksum": they write 0xffff, which is the same number, as the kernel's skb_checksum_help does.
 *
 * In place; allocates nothing.
 */
import { checksum, sum } from '../net/checksum.ts';
import { type Headers, pseudoSum } from '../net/headers.ts';

/**
 * Writes the TCP or UDP checksum of a packet whose headers were parsed. It ignores the old value of the field: a handler
 * that changed an address need not know that the checksum was unfinished.
 */
export function finishChecksum(view: DataView, offset: number, headers: Headers): void {
  const { l4, check, end } = headers;
  view.setUint16(offset + check, 0);
  const total = sum(view, offset + l4, end - l4, pseudoSum(view, offset, headers) + end - l4);
  view.setUint16(offset + check, checksum(total) || 0xffff);
}

/** The same without parsed headers: the checksum covers `count` bytes at `start`, and its field is at `check`. */
export function finishChecksumAt(view: DataView, start: number, count: number, check: number): void {
  view.setUint16(check, checksum(sum(view, start, count)) || 0xffff);
}
