/**
 * Where a port's two devices come from: the kernel, or memory. The managed port asks a network what there is
 * right now and gets devices made; it does not know which kind it is.
 */
import type { TwinpathError } from '../errors.ts';
import type { PathId } from '../memory/layout.ts';
import type { PathDevice } from '../paths/device.ts';
import type { Report } from '../paths/upkeep.ts';

/** A network device that a path could use, as it is at this moment. */
export interface Endpoint {
  /** Changes when the device is another one, even under the same name: its ifindex. */
  readonly key: number;
  readonly name: string;
  readonly up: boolean;
  readonly carrier: boolean;
}

/** Something that a device of the port is not any more: a name, a MAC address, an MTU. */
export interface Observation {
  readonly path: PathId;
  readonly device: string;
  readonly detail: string;
  /** It does not suit the port. */
  readonly error?: TwinpathError;
}

export interface PortNetwork {
  /** Name and MAC address of the NetVSC, now. */
  readonly device: string;
  readonly mac: string;
  /** The path's device now, or undefined if there is none. */
  endpoint(path: PathId): Endpoint | undefined;
  /** The same, asked of the kernel: what {@link endpoint} says may be some messages old. May take long. */
  look(path: PathId): Endpoint | undefined;
  /** Whether the kernel has the path's device running, asked without waiting; undefined if it does not say. */
  runs?(path: PathId): boolean | undefined;
  /** What another coordinator needs to have the same network. Plain data. */
  readonly holdings: unknown;
  /** What has changed since it was asked last. */
  observe(): Observation[];
  /**
   * The path's device for an endpoint could not be opened: whether that will not change by itself. Then it is told, and there
   * is no such endpoint until its device is another, or set otherwise.
   */
  forsakes?(path: PathId, endpoint: Pick<Endpoint, 'key'>, error: TwinpathError): boolean;
  /** Makes the path's device for an endpoint that `endpoint` just gave. Opens nothing yet. */
  make(path: PathId, endpoint: Endpoint): PathDevice;
  /** Makes a device of what another coordinator had opened: `PathDevice.holdings`. */
  adopt(path: PathId, endpoint: Pick<Endpoint, 'key'>, holdings: unknown): PathDevice;
  /**
   * Has an open device look after what it has set up: see {@link PathDevice.tend}. Never throws.
   *
   * @returns false if the path has to be closed and opened again
   */
  tend?(path: PathId, device: PathDevice, thorough: boolean, report: Report): boolean;
}
