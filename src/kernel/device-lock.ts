/**
 * The device lock: at most one Twinpath port per NetVSC, over all processes.
 *
 * The lock is a tun device with a fixed name, `tlock` and the NetVSC's ifindex, that stays down.
 * - Creating it takes CAP_NET_ADMIN in the NetVSC's namespace, as a port does. So no other user can hold it. (Any user
 *   could bind an abstract Unix socket.)
 * - Its name belongs to the network namespace. So containers in one namespace see it without sharing a file system.
 * - The kernel removes it with its descriptor. So the lock is free at once, however its owner ends.
 * - `ip link` shows which process has which NetVSC.
 *
 * Rejected: a lock on a file under /run, which containers do not share; an AF_XDP socket on the NetVSC, which frees its
 * queue later, in a work item, and keeps other programs from the device; a tcx or XDP attachment, which costs each
 * packet time; a netlink port number, which any user can bind.
 */
import { Errno, TwinpathError } from '../errors.ts';
import type { Link, RtNetlink } from './rtnetlink.ts';
import type { Shim } from './shim.ts';
import { checkTun, IFF_NO_PI, IFF_TUN, IFF_TUN_EXCL, openTun, TUNSETIFF, tunRequest } from './tun.ts';

/** Name of the lock's device: at most 15 bytes, because an ifindex has at most 10 digits. */
export const lockName = (ifindex: number): string => `tlock${ifindex}`;

/**
 * Locks a link of the calling thread's namespace. To unlock it, close the descriptor.
 *
 * @throws ERR_DEVICE_BUSY, naming the process that holds the lock; ERR_NO_TUN, ERR_PERMISSION, ERR_KERNEL
 */
export function lockDevice(shim: Shim, netlink: RtNetlink, { ifindex, name }: Link): number {
  const lock = lockName(ifindex);
  const fd = openTun(shim);
  try {
    const result = shim.ioctl(fd, TUNSETIFF, tunRequest(lock, IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL));
    if (result === Errno.EBUSY) throw busy(name, lock, netlink.link(lock));
    checkTun(result);
    const device = netlink.link(lock);
    if (device !== undefined) netlink.setLink(device.ifindex, { alias: aliasOf(name) });
    return fd;
  } catch (error) {
    shim.close(fd);
    throw error;
  }
}

/** The process whose port has a device. */
export interface Holder {
  /** In the process's own namespace of process numbers; undefined if the lock does not say. */
  readonly pid: number | undefined;
}

/** Who has locked a link of the calling thread's namespace, which every user may ask; undefined: nobody. @throws ERR_KERNEL */
export function holderOf(netlink: RtNetlink, ifindex: number): Holder | undefined {
  const lock = netlink.link(lockName(ifindex));
  return lock && { pid: pidIn(lock.alias) };
}

function pidIn(alias: string): number | undefined {
  const digits = /, process (\d+)$/.exec(alias)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

const aliasOf = (device: string): string => `Twinpath port on ${device}, process ${process.pid}`;

function busy(device: string, lock: string, occupant: Link | undefined): TwinpathError {
  const pid = pidIn(occupant?.alias ?? '');
  return new TwinpathError('ERR_DEVICE_BUSY', {
    device,
    detail: `${pid === undefined ? 'another Twinpath port' : `the port of process ${pid}`} has it`,
    hint: `Close that port first. The interface ${lock} stands for it ("ip link show ${lock}"), and goes with it.`,
  });
}
