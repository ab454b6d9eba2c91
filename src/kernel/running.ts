/**
 * Whether a device runs, asked without RTNL: by ioctl, because RTM_GETLINK waits for whoever is closing the device or
 * rebuilding its queues, for as long as that takes. Any thread; asks in the thread's network namespace.
 *
 * Formats: include/uapi/linux/if.h, sockios.h. The kernel's side: dev_ifsioc_locked (net/core/dev_ioctl.c) and
 * dev_get_flags (net/core/dev.c). IFF_RUNNING is gone as soon as the kernel begins to close the device
 * (__dev_close_many), before its driver does anything. It stays while a driver takes its carrier away for a moment.
 */
import { check, Errno } from '../errors.ts';
import { AF_INET, IFNAMSIZ, named, SOCK_DGRAM_CLOEXEC } from './ethtool.ts';
import type { Shim } from './shim.ts';

const SIOCGIFFLAGS = 0x8913;
const IFF_RUNNING = 0x40;

/** undefined if there is no such device, or it was renamed meanwhile. @throws ERR_KERNEL */
export function isRunning(shim: Shim, ifindex: number): boolean | undefined {
  const fd = check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)', {
    device: `ifindex ${ifindex}`,
  });
  try {
    const ifreq = named(shim, fd, ifindex);
    if (typeof ifreq === 'number') return undefined;
    const result = shim.ioctl(fd, SIOCGIFFLAGS, ifreq);
    if (result === Errno.ENODEV) return undefined;
    check(result, 'ioctl(SIOCGIFFLAGS)', { device: `ifindex ${ifindex}` });
    return (ifreq.getUint16(IFNAMSIZ, true) & IFF_RUNNING) !== 0;
  } finally {
    shim.close(fd);
  }
}
