/**
 * The few facts about a device that only sysfs has: its class on VMBus, its driver.
 *
 * Any thread; each answer is a fresh read of a few microseconds, and `undefined` whenever the file is
 * not there, for devices vanish between a look and the next. The root is a parameter so that a recorded
 * tree can stand in for a machine.
 *
 * NB: /sys/bus is the same in every network namespace; /sys/class/net shows the namespace of whoever
 * mounted /sys, not of the thread that asks. So what goes by a device's name here is a fallback for
 * kernels whose rtnetlink does not name the parent (before 5.14).
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';

/** A device's place in the machine: 'vmbus' and an instance GUID, 'pci' and an address. */
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

  /** What a network device hangs from; `undefined` for virtual ones. */
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

  /** The driver bound to a device of a bus; right in every namespace. */
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

  /** The last part of what a symbolic link points at. */
  #target(...path: string[]): string | undefined {
    try {
      return basename(readlinkSync(join(this.root, ...path)));
    } catch {
      return undefined;
    }
  }
}

/** Names come from users and from netlink: none may walk out of its folder. */
function isEntry(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !name.includes('\0');
}
