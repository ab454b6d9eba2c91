/** How long a packet may be: to fit the frames of a port, and to be sent by a path. */
import { TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { HEADROOM, type PathId } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { ETHERNET_BYTES, VLAN_TAG_BYTES } from '../net/ethernet.ts';

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

/** Whether a packet with two VLAN tags, from a device of this MTU, may get the long tag. */
export const fillsFrame = (mtu: number, frameSize: number): boolean =>
  mtu + LINK_HEADER > maxUntaggedBytes(frameSize);

/** Bytes of the longest packet that a device of this MTU sends from frames of this size. */
export const maxSentBytes = (mtu: number, frameSize: number): number =>
  Math.min(mtu + SENT_HEADER, maxPacketBytes(frameSize));

/**
 * Sets the longest packet that workers send on a path. May be called while they send: they read it once a round.
 * Coordinator only.
 */
export function limitSentBytes(memory: Memory, port: number, path: PathId, maxPacketBytes: number): void {
  const { queues } = memory.layout.geometry;
  for (let queue = 0; queue < queues; queue++)
    memory.slot({ port, queue, path }).maxPacketBytes = maxPacketBytes;
}

/** The same for a device of this MTU. A tap takes longer packets than its device sends, and reports them as sent. */
export function limitToMtu(memory: Memory, port: number, path: PathId, mtu: number): void {
  limitSentBytes(memory, port, path, maxSentBytes(mtu, memory.layout.geometry.frameSize));
}

/** The largest MTU whose packets do not fill a frame. */
export const maxMtu = (frameSize: number): number => maxPacketBytes(frameSize) - LINK_HEADER - 1;

/** @throws ERR_OPTION_INVALID if the device's longest packet would fill a frame or more */
export function refuseLongPackets({ name, mtu }: Link, frameSize: number): void {
  const most = maxMtu(frameSize);
  if (mtu <= most) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and a frame of ${frameSize} bytes serves one up to ${most}`,
    hint: frameSize < 4096 ? 'Open the port with frameSize: 4096 (--frame-size 4096).' : 'Lower the MTU.',
  });
}
