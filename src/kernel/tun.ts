/** /dev/net/tun: opens it, and makes the request for a device, which exists until its last descriptor is closed. */
import { check, Errno, TwinpathError } from '../errors.ts';
import type { Shim } from './shim.ts';

export const TUNSETIFF = 0x400454ca;
export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_NO_PI = 0x1000;
/** Refuses with EBUSY if a device of that name exists, of any kind. */
export const IFF_TUN_EXCL = 0x8000;

const FILE = '/dev/net/tun';
const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002;

/** The file's mode decides, not a capability: udev makes it 0666, a bare devtmpfs 0600. */
const HINT = `Let this user read and write the file, for example by "chmod 666 ${FILE}", or run as root.`;

/** A descriptor that is not a device yet. @throws ERR_NO_TUN, ERR_PERMISSION, ERR_KERNEL */
export function openTun(shim: Shim): number {
  const fd = shim.open(FILE, O_RDWR_NONBLOCK_CLOEXEC);
  if (fd === Errno.ENOENT || fd === Errno.ENODEV || fd === Errno.ENXIO) {
    throw new TwinpathError('ERR_NO_TUN', {
      device: FILE,
      syscall: 'open',
      errno: -fd,
      hint: 'Load the module: modprobe tun. In a container, pass the device in: --device /dev/net/tun.',
    });
  }
  return check(fd, 'open', { device: FILE, ...(fd === Errno.EACCES ? { hint: HINT } : {}) });
}

/** struct ifreq for TUNSETIFF. If `name` is a template with %d, the kernel writes the name that it chose into it. */
export function tunRequest(name: string, flags: number): DataView {
  const request = new DataView(new ArrayBuffer(40));
  new Uint8Array(request.buffer, 0, 15).set(new TextEncoder().encode(name));
  request.setUint16(16, flags, true);
  return request;
}

/** @throws ERR_PERMISSION, ERR_KERNEL */
export function checkTun(result: number): void {
  check(result, 'ioctl(TUNSETIFF)', { device: FILE });
}
