/**
 * Finishes checksums that a kernel stack has left to its device (CHECKSUM_PARTIAL, in
 * include/linux/skbuff.h).
 *
 * Such a field holds the folded sum of the pseudo header, not complemented; the checksum is the complement of
 * the sum from the start of the transport header to the end of the packet, that field included. Neither
 * function writes 0, which in UDP would say that there is none: 0xffff is the same number, as in the kernel's
 * skb_checksum_help.
 *
 * In place; allocates nothing.
 */
import { checksum, sum } from '../net/checksum.ts';
import { type Headers, pseudoSum } from '../net/headers.ts';

/**
 * Writes the TCP or UDP checksum of a packet whose headers were parsed. Whatever the field holds is replaced:
 * a handler that changed an address need not know that the checksum was unfinished.
 */
export function finishChecksum(view: DataView, offset: number, headers: Headers): void {
  const { l4, check, end } = headers;
  view.setUint16(offset + check, 0);
  const total = sum(view, offset + l4, end - l4, pseudoSum(view, offset, headers) + end - l4);
  view.setUint16(offset + check, checksum(total) || 0xffff);
}

/** The same for a protocol nobody parsed: of `count` bytes at `start`, with the field at `check`. */
export function finishChecksumAt(view: DataView, start: number, count: number, check: number): void {
  view.setUint16(check, checksum(sum(view, start, count)) || 0xffff);
}
