/**
 * A path device: the coordinator's end of a path. It opens kernel objects for all queues, arms them once the workers have
 * attached, and closes them once the workers have left. path.ts has the worker's end.
 */
import type { PortConfiguration } from '../configuration.ts';
import type { TwinpathError } from '../errors.ts';
import type { KernelRules } from '../kernel/kernel-rules.ts';
import type { KernelCounter } from '../memory/counters.ts';
import type { MetadataName } from '../memory/metadata.ts';
import type { Surroundings } from './upkeep.ts';

/** Why a path does not give some metadata, in words. */
export type MetadataReasons = Readonly<Partial<Record<MetadataName, string>>>;

/** Its calls may take long. */
export interface PathDevice {
  readonly description: PathDescription;
  /**
   * All that it has opened and changed, as plain data. A later coordinator makes the same device of it
   * (`PortNetwork.adopt`), to continue or to close it.
   */
  readonly holdings: unknown;
  /** VF only: whether all but its queues can stay open while the device has no link, without any loss. */
  readonly outlastsLink?: boolean;
  /** VF only: disarms and closes the queues, after every worker has left. @throws the first refusal, as {@link close} */
  closeQueues?(): void;
  /** VF only: opens and describes them anew. @throws TwinpathError: the path is to be closed */
  openQueues?(): void;
  /** Called after every change of the holdings, before the next step. The owner sets it. */
  changed: () => void;
  /** Opens and describes every queue in its path slot. @throws TwinpathError, after undoing all of it */
  open(): void;
  /**
   * Gives the device the port's configuration: between `open` and `arm`, and after each change. What is refused does not keep
   * the rest from being applied. Absent: the device has no such properties.
   *
   * @returns the refusals
   */
  configure?(wanted: PortConfiguration): TwinpathError[];
  /** After {@link configure} and the workers: packets that come to a stopped queue all the same are the kernel's. */
  stopQueues?(): void;
  /**
   * Exchanges the flow rules that it was made with, between two packets; undefined: every packet is for the handler. Between
   * `open` and `close`. Absent: no packet comes in here.
   *
   * @throws TwinpathError: the rules before stay
   */
  setRules?(rules: KernelRules | undefined): void;
  /** Lets packets in: after every worker has attached and filled. @throws TwinpathError */
  arm(): void;
  /** Lets no more packets in; the device may be gone. @throws the first refusal, after all steps */
  disarm(): void;
  /** Host path only: redirects the packets that the machine's own stack sends here. @throws TwinpathError */
  enableInline?(): void;
  /** Undoes that; without it, does nothing. @throws ERR_KERNEL */
  disableInline?(): void;
  /** Sets its settings again, after another program has changed them. @throws TwinpathError to be opened anew */
  settle?(): void;
  /**
   * Disarms if necessary and closes all: after every worker has left. A second call does nothing.
   *
   * @throws the first error, such as of a setting that could not be restored, after all steps
   */
  close(): void;
  /**
   * Checks its kernel objects, repairs and reports changes; follows the MTU of its device. Called between `open` and
   * `close`, whenever a link, a qdisc or a filter changed, and now and then. @throws TwinpathError if only closing and
   * reopening the path will help
   */
  tend?(around: Surroundings): void;
  /** Packets that the kernel has dropped since `open`, per queue. */
  dropped(queue: number): Record<KernelCounter, number>;
}

/** A path, described for people. */
export interface PathDescription {
  /** What moves its packets: 'af-xdp' for a VF, 'tap' for the NetVSC, 'host' for the machine's own stack. */
  readonly driver: 'af-xdp' | 'tap' | 'host' | 'memory';
  /** Name of the network device, or of its replacement. */
  device: string;
  /** How it runs: 'native zero-copy', 'native copy', 'generic copy', 'io_uring', 'read/write'… */
  mode: string;
  /** How it is redirected to and from the device: 'xdp link', 'tcx links', 'clsact filters', 'memory'. */
  redirect: string;
  /**
   * Of a VF: the treatment of VLAN tags. 'kept': they are in the packet, as on the synthetic path. 'lost': the device strips
   * them, and its driver cannot switch that off.
   */
  vlanTags?: 'kept' | 'lost' | 'as the other end sends them';
  /**
   * Of a VF of a port with several queues and `rss: 'auto'`. 'device': the device reports that it delivers each flow to the
   * queue in the port's table. 'software': it does not, or does not report it (MANA names no hashed fields), and workers
   * hand packets over. They hash each packet either way.
   */
  rss?: 'device' | 'software';
  /** Of a VF of a port with frames of 16384 bytes: whether its packets may be longer than one buffer. */
  multiBuffer?: boolean;
  /** Of a VF on the generic hook: why its driver runs no native XDP, and a remedy, in sentences. */
  generic?: string;
  /** What of the port's configuration the device has refused, in sentences. */
  refused?: readonly string[];
  /** Of the metadata that the handler asks for: what this path does not give, and why. Absent: it gives all of it. */
  lacks?: MetadataReasons;
  /** The traffic that stays with the machine's own stack, unseen by handlers: the option `protect`. */
  protects?: 'platform';
}
