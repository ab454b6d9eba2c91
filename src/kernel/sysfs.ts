/**
 * Facts about a device that only sysfs has: its class on VMBus, its driver.
 *
 * Any thread. Each answer is read anew, in a few microseconds, and is `undefined` if the file is missing: a device may
 * disappear at any moment. The root is a parameter, so that tests can use a recorded tree.
 *
 * NB: /sys/bus is the same in all network namespaces, but /sys/class/net shows the namespace that /sys was mounted in,
 * not the thread's. So look-ups by a device's name are a fallback, for kernels whose rtnetlink does not name the parent
 * (before 5.14).
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

/** A device's place on a bus: 'vmbus' and an instance GUID, 'pci' and an address. */
export interface Parent {
  readonly bus: string;
  readonly device: string;
}

export class Sysfs {
  readonly root: string;

  constructor(root = '/sys') {
    this.root = root;
  }

  /** The class GUID of a VMBus device, lower case and without braces. */
  vmbusClass(deviceName: string): string | undefined {
    if (!isEntry(deviceName)) return undefined;
    return this.#read('bus/vmbus/devices', deviceName, 'class_id')?.replace(/[{}]/g, '').toLowerCase();
  }

  /** The bus device of a network device; `undefined` for virtual ones. */
  parent(ifname: string): Parent | undefined {
    if (!isEntry(ifname)) return undefined;
    const device = this.#target('class/net', ifname, 'device');
    const bus = this.#target('class/net', ifname, 'device/subsystem');
    return device && bus ? { bus, device } : undefined;
  }

  /** The driver of a network device: 'hv_netvsc', 'mlx5_core' … */
  driver(ifname: string): string | undefined {
    return isEntry(ifname) ? this.#target('class/net', ifname, 'device/driver') : undefined;
  }

  /** The driver bound to a device of a bus; correct in every namespace. */
  driverOf({ bus, device }: Parent): string | undefined {
    if (!isEntry(bus) || !isEntry(device)) return undefined;
    return this.#target('bus', bus, 'devices', device, 'driver');
  }

  #read(...path: string[]): string | undefined {
    try {
      return readFileSync(join(this.root, ...path), 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  /** The last part of a symbolic link's target. */
  #target(...path: string[]): string | undefined {
    try {
      return basename(readlinkSync(join(this.root, ...path)));
    } catch {
      return undefined;
    }
  }
}

/** Names come from users and from netlink: none may leave its folder. */
function isEntry(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0');
}
