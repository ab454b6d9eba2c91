/**
 * Kernel uevents: devices and drivers coming and going, often a moment before rtnetlink says so.
 *
 * One thread owns a monitor; it hears the events of devices without a namespace (PCI, VMBus) and of the
 * network devices of the namespace it was opened in. Group 1 is the kernel's own voice; group 2 would be
 * udev's, later and absent without udev. Only root can send to either group.
 *
 * A uevent is a hint to look again, never a fact to act on: it races with rtnetlink both ways.
 */
import { check, Errno } from '../errors.ts';
import { NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

export interface Uevent {
  /** 'add', 'remove', 'move', 'change', 'bind' …; 'overrun' when events were lost at this point. */
  readonly action: string;
  /** Below /sys: '/devices/…'. */
  readonly path: string;
  /** 'net', 'pci', 'vmbus' …; '' when the event names none. */
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

  /** Everything since the last call, in order, without waiting. */
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
