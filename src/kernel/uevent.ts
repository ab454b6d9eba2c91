/**
 * Kernel uevents: they report new and removed devices and drivers, often a moment before rtnetlink does.
 *
 * A monitor belongs to one thread. It gets the events of devices without a namespace (PCI, VMBus), and of the network
 * devices in the namespace that it was opened in. It listens to group 1, the kernel's. Group 2 is udev's: its events come
 * later, and not at all without udev. Only root can send to either group.
 *
 * NB: use a uevent only as a reason to query rtnetlink: it may come before or after the change that rtnetlink shows.
 */
import { check, Errno } from '../errors.ts';
import { NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

export interface Uevent {
  /** 'add', 'remove', 'move', 'change', 'bind' …; 'overrun' if events were lost at this point. */
  readonly action: string;
  /** Below /sys: '/devices/…'. */
  readonly path: string;
  /** 'net', 'pci', 'vmbus' …; '' if the event names none. */
  readonly subsystem: string;
  readonly fields: Readonly<Record<string, string>>;
}

const KERNEL_GROUP = 1;
const OVERRUN: Uevent = Object.freeze({
  action: 'overrun',
  path: '',
  subsystem: '',
  fields: Object.freeze({}),
});

export class UeventMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /** @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim, bufferBytes = 1024 * 1024): UeventMonitor {
    return new UeventMonitor(NetlinkSocket.listen(shim, NETLINK.KOBJECT_UEVENT, KERNEL_GROUP, bufferBytes));
  }

  /** All events since the last call, in order, without waiting. */
  receive(): Uevent[] {
    const events: Uevent[] = [];
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === Errno.EAGAIN) return events;
      if (datagram === Errno.EINTR) continue;
      if (datagram === Errno.ENOBUFS) {
        events.push(OVERRUN);
        continue;
      }
      if (typeof datagram === 'number') {
        check(datagram, 'recv(KOBJECT_UEVENT)');
        continue;
      }
      const event = parseUevent(datagram);
      if (event) events.push(event);
    }
  }

  close(): void {
    this.#socket.close();
  }
}

/** 'add@/devices/…', then KEY=VALUE, all NUL-terminated; `undefined` for anything else. */
export function parseUevent(datagram: Uint8Array): Uevent | undefined {
  const [head = '', ...lines] = new TextDecoder().decode(datagram).split('\0');
  const at = head.indexOf('@');
  if (at <= 0) return undefined;
  // No prototype: a field may be called __proto__.
  const fields: Record<string, string> = Object.create(null);
  for (const line of lines) {
    const equals = line.indexOf('=');
    if (equals > 0) fields[line.slice(0, equals)] = line.slice(equals + 1);
  }
  return {
    action: head.slice(0, at),
    path: head.slice(at + 1),
    subsystem: fields.SUBSYSTEM ?? '',
    fields,
  };
}
