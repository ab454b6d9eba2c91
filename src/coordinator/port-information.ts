/** What a port is and can do, asked from the kernel: DPDK's rte_eth_dev_info_get. Coordinator thread only. */
import { TwinpathError } from '../errors.ts';
import type { DeviceInformation } from '../kernel/device-information.ts';
import { Path, type PathId } from '../memory/layout.ts';
import { type PortCapability, portCapability } from '../paths/capability.ts';
import type { PathDescription } from '../paths/device.ts';
import type { PortState } from './port-state.ts';

/** A device of the port, and the path that uses it. */
export interface PathInformation extends DeviceInformation {
  /** `undefined` while the path is not open. */
  readonly path: PathDescription | undefined;
}

export interface PortInformation {
  /** The NetVSC, or the card that is alone. */
  readonly synthetic: PathInformation;
  /** `undefined` while there is no VF. A card alone is its own. */
  readonly vf: PathInformation | undefined;
  /** What both can, with the reason for each thing that they cannot. */
  readonly capability: PortCapability;
}

/**
 * May take long: the kernel takes RTNL for each answer.
 *
 * @throws ERR_OPTION_INVALID for a port in memory; ERR_DEVICE_NOT_FOUND if its NetVSC is gone; ERR_KERNEL
 */
export function portInformation(state: PortState): PortInformation {
  const { network, memory } = state;
  if (network.information === undefined) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: network.device,
      detail: 'a port in memory has no network devices to describe',
    });
  }
  const synthetic = pathInformation(state, Path.SYNTHETIC);
  if (synthetic === undefined) throw new TwinpathError('ERR_DEVICE_NOT_FOUND', { device: network.device });
  const vf = pathInformation(state, Path.VF);
  const { frameSize } = memory.layout.geometry;
  return { synthetic, vf, capability: portCapability({ frameSize, synthetic, vf, path: vf?.path }) };
}

function pathInformation({ network, slots }: PortState, path: PathId): PathInformation | undefined {
  const device = network.information?.(path);
  if (device === undefined) return undefined;
  const slot = slots.find((one) => one.path === path);
  return { ...device, path: slot?.ready ? slot.device?.description : undefined };
}
