/**
 * The host tap, through which packets go to and from the machine's own stack. A `struct virtio_net_hdr` of ten bytes
 * precedes each packet (include/uapi/linux/virtio_net.h, offload/virtio.ts). A packet may be a TCP or UDP segment of up to
 * 64 KiB that must still be cut, with a checksum that must still be finished.
 *
 * The tap has no steering program. It remembers for three seconds which queue last wrote a flow (tun_flow_update), and
 * brings the flow's packets up on that queue; both directions have the same hash. So one worker gets both directions of a
 * connection. Other flows are spread by that hash.
 */
import { check, Errno } from '../../errors.ts';
import type { RtNetlink } from '../../kernel/rtnetlink.ts';
import type { Shim } from '../../kernel/shim.ts';
import { type OpenTap, openTap, takeOnlyCaptured } from '../tap/open.ts';

const IFF_VNET_HDR = 0x4000;
const TUNSETOFFLOAD = 0x400454d0;

const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;
const TCP = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
/** Linux 6.2 and later; both or neither. */
const UDP = TUN_F_USO4 | TUN_F_USO6;

export interface HostTap extends OpenTap {
  /** Segments that the kernel leaves for us to cut. */
  readonly segments: 'TCP' | 'TCP and UDP';
}

/** As {@link openTap}. */
export function openHostTap(
  shim: Shim,
  netlink: RtNetlink,
  { queues, mtu }: { readonly queues: number; readonly mtu: number },
  opened: (tap: OpenTap) => void = () => {},
): HostTap {
  const tap = openTap(shim, netlink, { template: 'twinhost%d', flags: IFF_VNET_HDR, queues, mtu }, opened);
  try {
    takeOnlyCaptured(shim, tap.fds[0]!);
    return { ...tap, segments: offload(shim, tap.fds[0]!) };
  } catch (error) {
    for (const fd of tap.fds) shim.close(fd);
    opened({ fds: [], ifindex: 0, name: '' });
    throw error;
  }
}

/** Takes over segmentation from the kernel. The ioctl's argument is the number itself, not an address. */
function offload(shim: Shim, fd: number): HostTap['segments'] {
  const both = shim.ioctl(fd, TUNSETOFFLOAD, TCP | UDP);
  if (both === 0) return 'TCP and UDP';
  const result = both === Errno.EINVAL ? shim.ioctl(fd, TUNSETOFFLOAD, TCP) : both;
  check(result, 'ioctl(TUNSETOFFLOAD)', { device: '/dev/net/tun' });
  return 'TCP';
}
