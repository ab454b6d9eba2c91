/**
 * Packets longer than a chunk of AF_XDP, in ports with frames of {@link JUMBO_FRAME} bytes.
 *
 * A chunk is at most a page (net/xdp/xdp_umem.c, xdp_umem_reg), so such a frame is four of them, one behind the other. The
 * kernel receives into the first chunk of frames alone, and puts a long packet into several frames: a chain of descriptors,
 * each but the last with {@link CONTINUED} (Linux 6.6). A long packet that is sent is in one frame, and its chain names the
 * chunks of that frame.
 */
import { HEADROOM } from './layout.ts';

/** Bytes of a chunk: the page size of all machines, or less. */
export const CHUNK = 4096;
export const CHUNK_SHIFT = 12;
/** Bytes of the frames of a port whose packets may be longer than a chunk. */
export const JUMBO_FRAME = 16_384;

/** A frame's chunks, and so the most descriptors of a packet that is sent, as a shift. */
export const PIECES_SHIFT = 2;

/** XDP_PKT_CONTD in the options of a descriptor, include/uapi/linux/if_xdp.h: the packet goes on in the next one. */
export const CONTINUED = 1;

/** Words of a descriptor, struct xdp_desc: the address's lower half is word 0. */
export const DescriptorWord = { upper: 1, bytes: 2, options: 3 } as const;

/** Bytes of the longest packet that fits a chunk, behind the headroom that the kernel keeps free. */
export const CHUNK_ROOM = CHUNK - HEADROOM;

export const hasChains = (frameSize: number): boolean => frameSize > CHUNK;

/** Where the packet in a frame is, in one word: the layout's `places` has one for each jumbo frame. */
export const placeOf = (address: number, bytes: number): number => (bytes << 14) | (address & 0x3fff);
export const placeStart = (place: number): number => place & 0x3fff;
export const placeBytes = (place: number): number => place >>> 14;
