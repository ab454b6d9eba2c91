/**
 * Where the devices of a port come from: the kernel, or memory. The managed port asks a network which devices exist, and has
 * it make path devices; it does not know which kind of network it has.
 */
import type { ConfigurationChange } from '../configuration.ts';
import type { TwinpathError } from '../errors.ts';
import type { DeviceCounters } from '../kernel/device-counters.ts';
import type { DeviceInformation } from '../kernel/device-information.ts';
import type { LinkModes } from '../kernel/ethtool-messages.ts';
import type { PathId } from '../memory/layout.ts';
import type { PathDevice } from '../paths/device.ts';
import type { Report } from '../paths/upkeep.ts';
import type { PortMacFilter } from './port-mac-filter.ts';
import type { PortRules } from './port-rules.ts';

/** A network device that a path could use, as it is at this moment. */
export interface Endpoint {
  /** Changes when the device is another one, even under the same name: its ifindex. */
  readonly key: number;
  readonly name: string;
  readonly up: boolean;
  readonly carrier: boolean;
}

/** A device of the port has another name, MAC address or MTU. */
export interface LinkChange {
  readonly path: PathId;
  readonly device: string;
  readonly detail: string;
  /** The new value, of a property that a port can configure. */
  readonly value?: Pick<ConfigurationChange, 'mtu' | 'mac'>;
  /** Set if the new value does not suit the port. */
  readonly error?: TwinpathError;
}

export interface PortNetwork {
  /** The present name and MAC address of the NetVSC. */
  readonly device: string;
  readonly mac: string;
  /** The path's present device; undefined if it has none. */
  endpoint(path: PathId): Endpoint | undefined;
  /** The same, asked from the kernel: {@link endpoint} may be some messages behind. May take long. */
  query(path: PathId): Endpoint | undefined;
  /** Speed and duplex of the path's device, if they are known. May take long. */
  modes?(path: PathId): LinkModes | undefined;
  /** What the path's device is and can do; `undefined` if the path has none. May take long. @throws ERR_KERNEL */
  information?(path: PathId): DeviceInformation | undefined;
  /** What the kernel and the driver count of the path's device. May take long. @throws ERR_KERNEL */
  counters?(path: PathId): DeviceCounters | undefined;
  /** What another coordinator needs to make the same network. Plain data. */
  readonly holdings: unknown;
  /** The port's MAC filter. Absent: there is no kernel that could filter. */
  readonly macFilter?: PortMacFilter;
  /** The port's flow rules. Absent: there is no kernel that could try rules. */
  readonly rules?: PortRules;
  /** The changes since the last call. */
  observe(): LinkChange[];
  /**
   * The path's device could not be opened. If trying again is useless, reports the error and has no such endpoint any more,
   * until its device is replaced or has other settings.
   *
   * @returns whether trying again is useless
   */
  exclude?(path: PathId, endpoint: Pick<Endpoint, 'key'>, error: TwinpathError): boolean;
  /** Makes the path device for an endpoint that `endpoint` has just returned. Opens nothing yet. */
  make(path: PathId, endpoint: Endpoint): PathDevice;
  /** Makes the path device that another coordinator had opened. @param holdings its `PathDevice.holdings` */
  adopt(path: PathId, endpoint: Pick<Endpoint, 'key'>, holdings: unknown): PathDevice;
  /**
   * Has an open device check and repair what it has set up: see {@link PathDevice.tend}. Never throws.
   *
   * @returns false if the path has to be closed and opened again
   */
  maintain?(path: PathId, device: PathDevice, thorough: boolean, report: Report): boolean;
}
