/**
 * Tells whether a link is a NetVSC. Pure except for reads of sysfs; any thread.
 */
import { ARPHRD_ETHER, type Link } from '../kernel/rtnetlink.ts';
import type { Parent, Sysfs } from '../kernel/sysfs.ts';

/** The VMBus class of synthetic network devices: include/linux/hyperv.h. */
const NETVSC_CLASS = 'f8615163-df3e-46c5-913f-f2d2f965ed0e';

/**
 * True for an Ethernet link whose parent is a VMBus device of the network class. Without a mounted sysfs the class cannot
 * be read, and the bus decides: no other VMBus driver makes network devices.
 */
export function isNetvsc(link: Link, sysfs: Sysfs): boolean {
  if (link.type !== ARPHRD_ETHER || link.kind !== '') return false;
  const parent = parentOf(link, sysfs);
  if (parent?.bus !== 'vmbus') return false;
  const found = sysfs.vmbusClass(parent.device);
  return found === undefined || found === NETVSC_CLASS;
}

/** From rtnetlink, which respects namespaces; from sysfs on kernels whose rtnetlink does not say. */
export function parentOf(link: Link, sysfs: Sysfs): Parent | undefined {
  if (link.parentBus !== '') return { bus: link.parentBus, device: link.parentDevice };
  return link.kind === '' ? sysfs.parent(link.name) : undefined;
}
