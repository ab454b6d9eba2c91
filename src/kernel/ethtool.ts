/**
 * The ethtool ioctl, for what ethtool netlink does not do on every kernel: RSS, see ethtool-rss.ts.
 *
 * The ioctl knows devices by name only, and a name may pass to another device at any moment. So callers give the
 * ifindex: the name is looked up just before the call and once more behind it.
 *
 * Each call opens a socket of its own in the thread's network namespace and takes RTNL, which may be
 * held for seconds while a VF comes or goes. Formats: include/uapi/linux/ethtool.h.
 */
import { check, Errno } from '../errors.ts';
import { addressOf, type Shim } from './shim.ts';

export const AF_INET = 2;
export const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCGIFNAME = 0x8910;
const SIOCETHTOOL = 0x8946;

/** struct ifreq: 16 bytes of name, then a pointer or an ifindex in a 24-byte union. */
const IFREQ = 40;
export const IFNAMSIZ = 16;

/** How often a name that was taken from the device under the call is looked up again. */
const ATTEMPTS = 5;

/**
 * One request, which the kernel also answers in: 0 or more, or a negative errno. Its first word is the command.
 * EAGAIN: the device was renamed under every attempt.
 *
 * NB: a request to change something may have reached the device that has the name now, if a rename fell into the
 * microsecond between look-up and call. It is made again on the right one.
 */
export function ethtool(shim: Shim, ifindex: number, request: DataView): number {
  const asked = new Uint8Array(request.buffer, request.byteOffset, request.byteLength).slice();
  const fd = check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)', {
    device: `ifindex ${ifindex}`,
  });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const ifreq = named(shim, fd, ifindex);
      if (typeof ifreq === 'number') return ifreq;
      const name = nameIn(ifreq);
      new Uint8Array(request.buffer, request.byteOffset, request.byteLength).set(asked);
      ifreq.setBigUint64(IFNAMSIZ, BigInt(addressOf(request)), true); // `request` is this call's parameter: alive
      const result = shim.ioctl(fd, SIOCETHTOOL, ifreq);
      const after = named(shim, fd, ifindex);
      if (typeof after === 'number' || nameIn(after) === name) return result;
    }
    return Errno.EAGAIN;
  } finally {
    shim.close(fd);
  }
}

/** A request with the device's name of this moment, or a negative errno: ENODEV. */
export function named(shim: Shim, fd: number, ifindex: number): DataView | number {
  const ifreq = new DataView(new ArrayBuffer(IFREQ));
  ifreq.setInt32(IFNAMSIZ, ifindex, true);
  const result = shim.ioctl(fd, SIOCGIFNAME, ifreq);
  return result < 0 ? result : ifreq;
}

function nameIn(ifreq: DataView): string {
  return String.fromCharCode(...new Uint8Array(ifreq.buffer, 0, IFNAMSIZ)).replace(/\0.*/s, '');
}
