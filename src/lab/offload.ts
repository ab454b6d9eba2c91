/**
 * Switches off what lets a veth hand over unfinished packets.
 *
 * veth promises checksum and segmentation offload because between two kernel stacks nothing needs
 * finishing. A port in user space sees the bytes, so a sender that feeds one must finish them itself.
 * The old ioctl rather than ethtool netlink: one call, every kernel, and no ethtool binary.
 */
import { check, Errno } from '../errors.ts';
import { addressOf, type Shim } from '../kernel/shim.ts';

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const SIOCETHTOOL = 0x8946;
/** TX checksum last: the kernel drops scatter-gather and segmentation with it, and says EINVAL to neither. */
const OFF = { GRO: 0x2c, GSO: 0x24, TSO: 0x1f, SG: 0x19, TXCSUM: 0x17 } as const;

/** For a device of the namespace that the calling thread is in. Missing features are not an error. */
export function switchOffloadsOff(shim: Shim, device: string): void {
  const socket = check(shim.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0), 'socket(AF_INET)');
  try {
    const value = new Uint32Array(2); // struct ethtool_value: command, data
    const request = new DataView(new ArrayBuffer(40)); // struct ifreq: name[16], pointer
    for (let i = 0; i < Math.min(device.length, 15); i++) request.setUint8(i, device.charCodeAt(i));
    request.setBigUint64(16, BigInt(addressOf(value)), true);
    for (const command of Object.values(OFF)) {
      value[0] = command;
      value[1] = 0;
      const result = shim.ioctl(socket, SIOCETHTOOL, request);
      if (result !== Errno.EOPNOTSUPP) check(result, 'ioctl(SIOCETHTOOL)', { device });
    }
  } finally {
    shim.close(socket);
  }
}
