/** Reports changes of a device's settings, by any program: the multicast group of ethtool netlink. Coordinator thread only. */
import { Errno } from '../errors.ts';
import { deviceOf } from './ethtool-messages.ts';
import { ETHTOOL_FAMILY } from './ethtool-netlink.ts';
import { findFamily } from './generic-netlink.ts';
import { parseMessages } from './netlink.ts';
import { checkAnswer, NETLINK, NetlinkSocket } from './netlink-socket.ts';
import type { Shim } from './shim.ts';

/** Never waits: the caller waits for `fd` to become readable. */
export class EthtoolMonitor {
  readonly fd: number;
  readonly #socket: NetlinkSocket;

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
    this.fd = socket.fd;
  }

  /** In a kernel without ethtool netlink the monitor reports nothing. @throws ERR_KERNEL, ERR_PERMISSION */
  static open(shim: Shim, bufferBytes = 1024 * 1024): EthtoolMonitor {
    const requests = NetlinkSocket.open(shim, NETLINK.GENERIC);
    let group: number | undefined;
    try {
      group = findFamily(requests, ETHTOOL_FAMILY)?.groups.get('monitor');
    } finally {
      requests.close();
    }
    const socket = NetlinkSocket.listen(shim, NETLINK.GENERIC, 0, bufferBytes);
    try {
      if (group !== undefined) socket.join(group);
    } catch (error) {
      socket.close();
      throw error;
    }
    return new EthtoolMonitor(socket);
  }

  /**
   * The ifindex of each device whose settings were changed since the last call, by this process or another. `undefined`
   * stands for lost messages: the settings of any device may have changed. The kernel reports channels and features in
   * all versions that have the monitor, and RSS since Linux 6.17.
   *
   * @throws ERR_KERNEL if the socket itself fails
   */
  receive(): (number | undefined)[] {
    const events: (number | undefined)[] = [];
    for (;;) {
      const datagram = this.#socket.receive();
      if (datagram === Errno.EAGAIN) return events;
      if (datagram === Errno.EINTR) continue;
      if (datagram === Errno.ENOBUFS) {
        events.push(undefined);
        continue;
      }
      if (typeof datagram === 'number') {
        checkAnswer({ error: datagram, text: '' }, { syscall: 'recv(ethtool monitor)' });
        continue;
      }
      for (const message of parseMessages(datagram)) {
        const ifindex = deviceOf(message);
        if (ifindex !== 0) events.push(ifindex);
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}
