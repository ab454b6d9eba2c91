/**
 * A path device: the coordinator's end of a path. It opens kernel objects for all queues, arms them once the workers are
 * attached, and closes them once the workers have left. path.ts has the worker's end.
 */
import type { KernelCounter } from '../memory/counters.ts';
import type { Surroundings } from './upkeep.ts';

/** Its calls may take long. */
export interface PathDevice {
  readonly description: PathDescription;
  /**
   * Everything it has open and changed, as plain data: what a coordinator that follows this one makes the same device
   * of (`PortNetwork.adopt`), to go on with it or to close it.
   */
  readonly holdings: unknown;
  /** VF only: whether all but its queues can stay open while the device's link is away, and nothing is lost by that. */
  readonly outlastsLink?: boolean;
  /** VF only: the kernel has stopped the device, or it is gone. What its driver has not read it will not read now. */
  stopped?(): void;
  /** VF only: disarms and closes the queues, after every worker has let go. @throws the first refusal, as {@link close} */
  closeQueues?(): void;
  /** VF only: opens and describes them anew. @throws TwinpathError: the path is to be closed */
  openQueues?(): void;
  /** Called whenever the holdings have changed, before anything else is done. The owner sets it. */
  changed: () => void;
  /** Opens and describes every queue in its path slot. @throws TwinpathError, having undone all of it */
  open(): void;
  /** Lets packets in: after every worker has attached and filled. @throws TwinpathError */
  arm(): void;
  /** Lets no more packets in; the device may be gone. @throws the first refusal, once everything has been tried */
  disarm(): void;
  /** Host path only: what the machine's own stack sends comes here from now on. @throws TwinpathError */
  enableInline?(): void;
  /** The opposite; nothing if it was not engaged. @throws ERR_KERNEL */
  disableInline?(): void;
  /** Somebody has changed settings of the device; the path sets its own again. @throws TwinpathError to be opened anew */
  settle?(): void;
  /**
   * Disarms if need be and closes everything: after every worker has let go. Again, it does nothing.
   *
   * @throws the first error, such as of a setting that could not be given back, once everything has been tried
   */
  close(): void;
  /**
   * Looks whether what it has set up stands as it was, repairs it and tells; follows the MTU of its device. From `open`
   * to `close`, whenever a link, a qdisc or a filter changed, and now and then. @throws TwinpathError if only closing
   * the path and opening it again will help
   */
  tend?(around: Surroundings): void;
  /** What the kernel has dropped since `open`, per queue. */
  dropped(queue: number): Record<KernelCounter, number>;
}

/** What a path turned out to be, for people. */
export interface PathDescription {
  readonly driver: 'af-xdp' | 'tap' | 'host' | 'memory';
  /** Name of the network device, or what stands in for it. */
  device: string;
  /** How it runs: 'native zero-copy', 'native copy', 'generic copy', 'io_uring', 'read/write'… */
  mode: string;
  /** How it is redirected to and from the device: 'xdp link', 'tcx links', 'clsact filters', 'memory'. */
  redirect: string;
  /**
   * Of a VF: what becomes of VLAN tags. 'kept': the handler finds them in the packet, as by the synthetic path. 'lost':
   * the device takes them away, and its driver does not let that be switched off.
   */
  vlanTags?: 'kept' | 'lost' | 'as the other end sends them';
  /**
   * Of a VF of a port with several queues, and `rss: 'auto'`. 'device': it has said that it delivers each flow to the queue
   * that the port's table names. 'software': it has not, or does not tell (MANA names no hashed fields), and workers hand
   * packets over. They hash each packet either way.
   */
  rss?: 'device' | 'software';
  /** Of a VF by the generic hook: why its driver runs no native XDP, and what can be done about it, in sentences. */
  generic?: string;
  /** What of the traffic stays with the machine's own stack, and no handler sees: the option `protect`. */
  protects?: 'platform';
}
