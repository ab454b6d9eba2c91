/**
 * One Twinpath per NetVSC: a claim that other ports, of this or another process, run into.
 *
 * An abstract Unix socket (unix(7)): its name belongs to the network namespace, as the device does, and it is
 * free again the moment its owner is gone, however it went. Nothing lies in the file system.
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import type { Shim } from './shim.ts';

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;

/** Claims a link of the calling thread's namespace; close the descriptor to give it up. @throws ERR_DEVICE_BUSY */
export function claim(shim: Shim, ifindex: number, device: string): number {
  const name = new TextEncoder().encode(`\0twinpath/${ifindex}`);
  const address = new Uint8Array(2 + name.length); // struct sockaddr_un: u16 family, path
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  const fd = check(shim.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_UNIX)', { device });
  const bound = shim.bind(fd, address, address.length);
  if (bound >= 0) return fd;
  shim.close(fd);
  if (bound !== Errno.EADDRINUSE) check(bound, 'bind(AF_UNIX)', { device });
  throw new TwinpathError('ERR_DEVICE_BUSY', {
    device,
    detail: 'another Twinpath port has it',
    hint: 'Close that port first; in its network namespace "ss -xap | grep twinpath/" finds its process.',
  });
}
