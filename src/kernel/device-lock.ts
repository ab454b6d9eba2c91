/**
 * One Twinpath per NetVSC: a lock that other ports, of this or another process, run into.
 *
 * The lock is a tun device of a fixed name, `tlock` and the NetVSC's ifindex, that stays down. Making it takes
 * CAP_NET_ADMIN in the namespace that the NetVSC is in, without which there is no port either; so no other user can
 * hold it. (An abstract Unix socket could be bound by anybody.) Its name belongs to the network namespace, so that
 * containers that share one see each other without sharing a file system. It is free again the moment its owner is
 * gone, however it went: the kernel removes the device with its descriptor. And `ip link` shows who has which NetVSC.
 *
 * Considered: a lock on a file under /run, which containers do not share; an AF_XDP socket on the NetVSC, which frees
 * its queue later, in a work item, and keeps other programs from the device; a tcx or XDP attachment, which all
 * packets would pay for; a netlink port number, which anybody may bind.
 */
import { Errno, TwinpathError } from '../errors.ts';
import type { Link, RtNetlink } from './rtnetlink.ts';
import type { Shim } from './shim.ts';
import { checkTun, IFF_NO_PI, IFF_TUN, IFF_TUN_EXCL, openTun, TUNSETIFF, tunRequest } from './tun.ts';

/** Name of the device that stands for the lock: at most 15 bytes, as an ifindex has 10 digits at most. */
export const lockName = (ifindex: number): string => `tlock${ifindex}`;

/**
 * Locks a link of the calling thread's namespace; close the descriptor to give it up.
 *
 * @throws ERR_DEVICE_BUSY, naming the process that has it; ERR_NO_TUN, ERR_PERMISSION, ERR_KERNEL
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

const aliasOf = (device: string): string => `Twinpath port on ${device}, process ${process.pid}`;

function busy(device: string, lock: string, occupant: Link | undefined): TwinpathError {
  const pid = /, process (\d+)$/.exec(occupant?.alias ?? '')?.[1];
  return new TwinpathError('ERR_DEVICE_BUSY', {
    device,
    detail: `${pid === undefined ? 'another Twinpath port' : `the port of process ${pid}`} has it`,
    hint: `Close that port first. The interface ${lock} stands for it ("ip link show ${lock}"), and goes with it.`,
  });
}
