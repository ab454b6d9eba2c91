/**
 * The socket of a service manager, systemd's for one: sd_notify(3). One datagram for each message, which is never waited for.
 *
 * Node has no datagram sockets of the Unix domain, so the shim's calls make it. Any thread; synchronous.
 */
import { check, Errno, TwinpathError } from '../errors.ts';
import type { Shim } from './shim.ts';

const AF_UNIX = 1;
/** SOCK_DGRAM | SOCK_CLOEXEC */
const DATAGRAM = 2 | 0o2000000;
/** MSG_DONTWAIT | MSG_NOSIGNAL */
const AT_ONCE = 0x40 | 0x4000;
/** sun_path of struct sockaddr_un. */
const PATH_BYTES = 108;

export class NotifySocket {
  readonly #shim: Shim;
  #fd: number;

  private constructor(shim: Shim, fd: number) {
    this.#shim = shim;
    this.#fd = fd;
  }

  /**
   * Connects to the socket that `$NOTIFY_SOCKET` names: an absolute path, or '@' and an abstract name.
   *
   * @throws ERR_OPTION_INVALID if it names none; ERR_KERNEL, ERR_PERMISSION if the kernel refuses
   */
  static open(shim: Shim, name: string): NotifySocket {
    const path = Buffer.from(name);
    if (!/^[/@]./.test(name) || path.length >= PATH_BYTES)
      throw new TwinpathError('ERR_OPTION_INVALID', {
        device: 'NOTIFY_SOCKET',
        detail: `${name} is not the path of a socket, nor an abstract name`,
        hint: 'A service manager sets it. To run without one: env -u NOTIFY_SOCKET.',
      });
    const address = new Uint8Array(2 + PATH_BYTES);
    new DataView(address.buffer).setUint16(0, AF_UNIX, true);
    address.set(path, 2);
    const isAbstract = name.startsWith('@');
    if (isAbstract) address[2] = 0;
    const fd = check(shim.socket(AF_UNIX, DATAGRAM, 0), 'socket');
    try {
      // The length of an abstract name counts; a path ends with a zero.
      check(shim.connect(fd, address, 2 + path.length + (isAbstract ? 0 : 1)), 'connect', {
        device: name,
        hint: 'NOTIFY_SOCKET names it. To run without a service manager: env -u NOTIFY_SOCKET.',
      });
    } catch (error) {
      shim.close(fd);
      throw error;
    }
    return new NotifySocket(shim, fd);
  }

  /**
   * Sends assignments, 'READY=1'. False: the manager's buffer is full, or it has gone; a later message may arrive.
   */
  send(...assignments: readonly string[]): boolean {
    if (this.#fd < 0) return false;
    const bytes = Buffer.from(assignments.map((one) => one.replaceAll('\n', ' ')).join('\n'));
    let result: number;
    do result = this.#shim.send(this.#fd, bytes, bytes.length, AT_ONCE);
    while (result === Errno.EINTR);
    return result === bytes.length;
  }

  close(): void {
    if (this.#fd >= 0) this.#shim.close(this.#fd);
    this.#fd = -1;
  }
}
