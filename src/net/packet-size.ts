/** How long a packet may be: to fit the frames of a port, and to be sent by a device. Pure; any thread. */
import { JUMBO_FRAME } from '../memory/chains.ts';
import { HEADROOM } from '../memory/layout.ts';
import { ETHERNET_BYTES, VLAN_TAG_BYTES } from './ethernet.ts';

/** Ethernet header and two VLAN tags: what a received packet may have beyond its device's MTU. */
const LINK_HEADER = ETHERNET_BYTES + 2 * VLAN_TAG_BYTES;

/**
 * Ethernet header and one VLAN tag: what a sent packet may have beyond the MTU. The kernel forwards packets of that length
 * from device to device, tagged or not, and drops longer ones (is_skb_forwardable, include/linux/netdevice.h, for veth and
 * bridge). NICs have the same limit (mlx5: MLX5E_ETH_HARD_MTU). Neither AF_XDP nor a tap refuses a longer packet: the device
 * drops it, or each kick ends in EBUSY.
 */
export const SENT_HEADER = ETHERNET_BYTES + VLAN_TAG_BYTES;

/** Bytes of a packet that a frame holds. A receive that fills all of them may have been cut off. */
export const maxPacketBytes = (frameSize: number): number => frameSize - HEADROOM;

/**
 * Bytes, as the kernel counts them, of the longest packet that gets no long tag. The kernel does not count a VLAN tag that
 * the device has stripped, and the tap inserts it again: with that tag, one byte of the frame stays free.
 */
export const maxUntaggedBytes = (frameSize: number): number => maxPacketBytes(frameSize) - VLAN_TAG_BYTES - 1;

/**
 * The largest MTU with frames of 16384 bytes: packets up to it can get metadata before them (MAX_WITH_METADATA in
 * kernel/metadata-programs.ts), which their reader expects before each.
 */
const MAX_JUMBO_MTU = 15_900;

/** The largest MTU that an open port can be given: its tap was opened for packets that get no long tag. */
export const maxMtuWhileOpen = (frameSize: number): number =>
  Math.min(maxUntaggedBytes(frameSize) - LINK_HEADER, MAX_JUMBO_MTU);

/** Whether a packet with two VLAN tags, from a device of this MTU, may get the long tag. */
export const fillsFrame = (mtu: number, frameSize: number): boolean => mtu > maxMtuWhileOpen(frameSize);

/** Bytes of the longest packet that a device of this MTU sends from frames of this size. */
export const maxSentBytes = (mtu: number, frameSize: number): number =>
  Math.min(mtu + SENT_HEADER, maxPacketBytes(frameSize));

/** The largest MTU whose packets do not fill a frame. */
export const maxMtu = (frameSize: number): number =>
  Math.min(maxPacketBytes(frameSize) - LINK_HEADER - 1, MAX_JUMBO_MTU);

/** The sizes of a frame that a port can have. */
export const FRAME_SIZES = [2048, 4096, JUMBO_FRAME] as const;

/** What a person can do about an MTU that frames of this size do not serve. */
export function largerFrame(mtu: number, frameSize: number): string {
  const size = FRAME_SIZES.find((one) => one > frameSize && mtu <= maxMtuWhileOpen(one));
  return size === undefined
    ? 'Lower the MTU.'
    : `Open the port with frameSize: ${size} (--frame-size ${size}).`;
}
