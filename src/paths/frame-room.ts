/** Whether the packets of a device fit the frames of a port. */
import { TwinpathError } from '../errors.ts';
import type { Link } from '../kernel/rtnetlink.ts';
import { HEADROOM } from '../memory/layout.ts';

/** Ethernet header and two VLAN tags: what a packet may carry beyond its device's MTU. */
const LINK_HEADER = 14 + 8;

/** Bytes of a packet that a frame holds. A receive that fills all of them may have been cut off. */
export const roomOf = (frameSize: number): number => frameSize - HEADROOM;

/** @throws ERR_OPTION_INVALID if the device's longest packet would fill a frame or more */
export function refuseLongPackets({ name, mtu }: Link, frameSize: number): void {
  const most = roomOf(frameSize) - LINK_HEADER - 1;
  if (mtu <= most) return;
  throw new TwinpathError('ERR_OPTION_INVALID', {
    device: name,
    detail: `its MTU is ${mtu} and a frame of ${frameSize} bytes serves one up to ${most}`,
    hint: frameSize < 4096 ? 'Open the port with frameSize: 4096 (--frame-size 4096).' : 'Lower the MTU.',
  });
}
