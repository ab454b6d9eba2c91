/**
 * The offload word of a packet: the work that is left before it can be sent as frames.
 *
 * 0 for ordinary packets. A packet of the machine's own stack may be one large TCP segment to be cut (TSO), and its layer-4
 * checksum may be only the sum of the pseudo header. This is `struct virtio_net_hdr` (include/uapi/linux/virtio_net.h) in one
 * Int32.
 *
 * ```
 *   bits  0–15   segment size: payload bytes of each frame; 0: not to be cut
 *   bits 16–23   kind of segmentation, as VIRTIO_NET_HDR_GSO_*: 1 TCP/IPv4, 4 TCP/IPv6, 5 UDP
 *   bit  24      the checksum is unfinished (VIRTIO_NET_HDR_F_NEEDS_CSUM)
 *   bit  25      its pseudo header has other addresses than the IP header: only the sum in the field is right
 * ```
 */

/** VIRTIO_NET_HDR_GSO_* without the ECN bit. */
export const Segmentation = { NONE: 0, TCP_V4: 1, TCP_V6: 4, UDP: 5 } as const;

export const CHECKSUM_UNFINISHED = 1 << 24;

export const PSEUDO_KEPT = 1 << 25;

export const offloadWord = (segmentBytes: number, kind: number, unfinished: boolean): number =>
  (segmentBytes & 0xffff) | ((kind & 0xff) << 16) | (unfinished ? CHECKSUM_UNFINISHED : 0);

export const segmentBytes = (offload: number): number => offload & 0xffff;
export const segmentation = (offload: number): number => (offload >>> 16) & 0xff;
export const isUnfinished = (offload: number): boolean => (offload & CHECKSUM_UNFINISHED) !== 0;
export const keepsPseudo = (offload: number): boolean => (offload & PSEUDO_KEPT) !== 0;
