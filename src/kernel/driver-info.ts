/**
 * A device's driver, firmware and bus address: ETHTOOL_GDRVINFO, as `ethtool -i` shows it. Netlink has no message for it, so
 * this is an ioctl by the device's current name: see device-ioctl.ts. It takes RTNL. Coordinator thread and command line.
 * Format: struct ethtool_drvinfo, include/uapi/linux/ethtool.h.
 */
import { ethtool } from './device-ioctl.ts';
import { decodeString } from './netlink.ts';
import type { Shim } from './shim.ts';

/** Texts as the driver writes them; '' for one that it does not report. */
export interface DriverInfo {
  /** 'hv_netvsc', 'mlx5_core', 'veth' … */
  readonly driver: string;
  readonly firmware: string;
  /** The device's name on its bus: a PCI address, a VMBus GUID. */
  readonly busAddress: string;
}

const ETHTOOL_GDRVINFO = 0x3;
const BYTES = 196;
const FIELD_BYTES = 32;
const FIELDS = { driver: 4, firmware: 68, busAddress: 100 } as const;
/** Drivers write these for "none": ethtool_get_drvinfo and drivers/net/ethernet. */
const NONE = new Set(['N/A', 'n/a', 'NA']);

/** `undefined` if the device is gone, or its driver does not report it. @throws ERR_KERNEL if no socket can be opened */
export function driverInfo(shim: Shim, ifindex: number): DriverInfo | undefined {
  const request = new DataView(new ArrayBuffer(BYTES));
  request.setUint32(0, ETHTOOL_GDRVINFO, true);
  return ethtool(shim, ifindex, request) < 0 ? undefined : parseDriverInfo(request);
}

export function parseDriverInfo(answer: DataView): DriverInfo {
  const field = (at: number): string => {
    const text = decodeString(new Uint8Array(answer.buffer, answer.byteOffset + at, FIELD_BYTES)).trim();
    return NONE.has(text) ? '' : text;
  };
  return {
    driver: field(FIELDS.driver),
    firmware: field(FIELDS.firmware),
    busAddress: field(FIELDS.busAddress),
  };
}
