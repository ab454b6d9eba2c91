/**
 * Ioctls on a network device: the ethtool requests that netlink cannot make on every kernel (ethtool-rss-ioctl.ts), and
 * the device's flags.
 *
 * These ioctls take a device's name only, and a name may pass to another device at any moment. Callers give the
 * ifindex: the name is looked up before the call and once more after it, and the call is repeated if it was renamed.
 *
 * Each ethtool request opens a socket in the thread's network namespace. Formats: include/uapi/linux/ethtool.h, if.h, sockios.h.
 */
import { check, Errno, type ErrorDetails } from '../errors.ts';
import { addressOf, type Shim } from './shim.ts';

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCGIFNAME = 0x8910;
const SIOCGIFFLAGS = 0x8913;
const SIOCETHTOOL = 0x8946;
const IFF_RUNNING = 0x40;

/** struct ifreq: 16 bytes of name, then a union of 24 bytes: a pointer, an ifindex or flags. */
const IFREQ = 40;
const IFNAMSIZ = 16;

/** How often the name is looked up again if the device was renamed during the call. */
const ATTEMPTS = 5;

/**
 * Makes one ethtool request. The kernel writes its answer into `request`, whose first word is the command. Takes RTNL,
 * which the kernel may hold for seconds while a VF comes or goes.
 *
 * NB: if the device is renamed in the microsecond between look-up and call, a request that changes something may
 * reach the device that has the name now. It is then repeated on the right one.
 *
 * @returns 0 or more, or a negative errno; ENODEV if the device is gone, EAGAIN if it was renamed during every attempt
 */
export function ethtool(shim: Shim, ifindex: number, request: DataView): number {
  const bytes = new Uint8Array(request.buffer, request.byteOffset, request.byteLength);
  const asked = bytes.slice();
  return withSocket(shim, ifindex, (fd) =>
    byName(shim, fd, ifindex, (ifreq) => {
      bytes.set(asked);
      ifreq.setBigUint64(IFNAMSIZ, BigInt(addressOf(request)), true); // the parameter keeps the buffer alive
      return shim.ioctl(fd, SIOCETHTOOL, ifreq);
    }),
  );
}

/**
 * Whether a device is running, without RTNL: RTM_GETLINK waits until a device that is being closed, or whose queues are
 * being rebuilt, is ready. dev_ifsioc_locked (net/core/dev_ioctl.c) and dev_get_flags (net/core/dev.c) take no lock.
 *
 * The kernel clears IFF_RUNNING as soon as it begins to close the device (__dev_close_many), before it calls the
 * driver. The flag stays set while a driver turns its carrier off for a moment.
 *
 * @param fd see {@link openIoctlSocket}: of the device's network namespace
 * @returns undefined if there is no such device, or it is renamed all the time
 * @throws ERR_KERNEL
 */
export function isRunning(shim: Shim, fd: number, ifindex: number): boolean | undefined {
  let flags = 0;
  const result = byName(shim, fd, ifindex, (ifreq) => {
    const answer = shim.ioctl(fd, SIOCGIFFLAGS, ifreq);
    flags = ifreq.getUint16(IFNAMSIZ, true);
    return answer;
  });
  if (result === Errno.ENODEV || result === Errno.EAGAIN) return undefined;
  check(result, 'ioctl(SIOCGIFFLAGS)', { device: `ifindex ${ifindex}` });
  return (flags & IFF_RUNNING) !== 0;
}

/** A socket for these ioctls, in the thread's network namespace. @throws ERR_KERNEL */
export function openIoctlSocket(shim: Shim, details: ErrorDetails = {}): number {
  return check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)', details);
}

/**
 * Makes a call by the device's current name, again if the device was renamed during it.
 *
 * @returns the call's result; ENODEV if the device is gone, EAGAIN if it was renamed during every attempt
 */
function byName(shim: Shim, fd: number, ifindex: number, call: (ifreq: DataView) => number): number {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const ifreq = namedRequest(shim, fd, ifindex);
    if (typeof ifreq === 'number') return ifreq;
    const name = nameIn(ifreq);
    const result = call(ifreq);
    const after = namedRequest(shim, fd, ifindex);
    if (typeof after === 'number') return after; // the answer may be another device's, which has the name now
    if (nameIn(after) === name) return result;
  }
  return Errno.EAGAIN;
}

function withSocket<T>(shim: Shim, ifindex: number, work: (fd: number) => T): T {
  const fd = openIoctlSocket(shim, { device: `ifindex ${ifindex}` });
  try {
    return work(fd);
  } finally {
    shim.close(fd);
  }
}

/** A request that holds the device's current name, or a negative errno: ENODEV. */
function namedRequest(shim: Shim, fd: number, ifindex: number): DataView | number {
  const ifreq = new DataView(new ArrayBuffer(IFREQ));
  ifreq.setInt32(IFNAMSIZ, ifindex, true);
  const result = shim.ioctl(fd, SIOCGIFNAME, ifreq);
  return result < 0 ? result : ifreq;
}

function nameIn(ifreq: DataView): string {
  return String.fromCharCode(...new Uint8Array(ifreq.buffer, 0, IFNAMSIZ)).replace(/\0.*/s, '');
}
