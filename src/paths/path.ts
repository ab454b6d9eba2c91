/**
 * A path, seen from its two ends.
 *
 * The coordinator holds a {@link PathDevice}: it opens kernel objects for all queues, arms them once
 * the workers are attached, and closes them once the workers have let go. Each worker holds a
 * {@link PathQueue} per attached path: four rings and a kick. Drivers are folders beside this file:
 * `af-xdp`, `tap`, `memory`, `host`.
 *
 * Ring and device calls take and return counts, never wait and never throw; the caller decides what to
 * drop, and counts it.
 */

import type { KernelCounter } from '../memory/counters.ts';
import type { FrameHolder, PathLedger } from '../memory/frames.ts';
import type { PathId } from '../memory/layout.ts';
import type { Surroundings } from './upkeep.ts';

/** The worker's end. Belongs to the worker thread of its queue. */
export interface PathQueue extends FrameHolder {
  readonly path: PathId;
  /** What poll(2) wakes on when packets are there; -1 if nothing does; {@link NO_ARRIVALS} if none ever are. */
  readonly fd: number;
  /**
   * Whether received packets lie in buffers of the path's own, which it takes back with `release`. Such a path
   * also says in the burst's `offload` array what is to be done for each.
   */
  readonly borrowed?: boolean;
  /** Entries ready to be received, `max` at most. Looks at the kernel's cursor first. */
  ready(max: number): number;
  /**
   * Whether nothing was there at the moment of this call, after everything known of was received. Absent where `ready`
   * always says so: it may tell what was found long ago, before a worker lost its CPU.
   */
  isEmpty?(): boolean;
  /**
   * Puts the next packets' memory offsets and lengths into the arrays, `max` at most, and returns how
   * many. They stay in the ring until {@link release}.
   */
  receive(offset: Int32Array, bytes: Int32Array, max: number): number;
  /** As `receive`, into the burst that lies at `burst` in the shared memory. Absent: there is no faster way. */
  receiveBurst?(burst: number, max: number): number;
  /** For a handler's `turn`, where what is received and what is sent are descriptors in rings. */
  readonly turn?: PathTurn;
  /** Gives back what the last `receive` or turn read, once every frame of it was passed on. */
  release(): void;
  /** How many of `wanted` packets can be pushed now. */
  room(wanted: number): number;
  /** Stages one packet; only after `room` said so. */
  push(offset: number, bytes: number): void;
  /**
   * Stages packets of the burst that lies at `burst`, from `from` on and before `to`, and returns how many: it ends
   * before the first whose verdict is not TX, that is no frame or longer than `longest`, or that has no room. Absent:
   * one by one.
   */
  pushBurst?(burst: number, from: number, to: number, longest: number): number;
  /**
   * Sends a large segment of the machine's own stack uncut, at once, and behind what was pushed before; its offload
   * word says how it is to be cut. False: it is to be cut and pushed. Absent where that is always so.
   */
  sendSegment?(offset: number, bytes: number, offload: number): boolean;
  /**
   * Publishes what was pushed and wakes the kernel if it must be. 0, or the negative errno of a kick that
   * says the device is gone: again at every call, and from then on packets only wait to be taken back.
   */
  flush(): number;
  /** Whether the device may have lost its link, and the coordinator is to be told to look. Once. */
  takeDoubt?(): boolean;
  /** Takes sent frames back into the pool. */
  complete(): void;
  /** Offers the kernel free frames for packets to come. */
  refill(): void;
  /** Packets pushed and not yet completed. */
  inFlight(): number;
  /**
   * Of a path whose driver sends by itself: another number whenever it has got on, and undefined once it has sent all that
   * was published.
   */
  sending?(): number | undefined;
  /** Whether pushed packets still wait for the kernel to take them: then flush again soon. */
  readonly backlog: boolean;
  /**
   * Names, oldest first, the packets the kernel has not taken. For a path that is going: afterwards
   * the caller owns their frames and nothing may be pushed here.
   */
  takeBack(visit: (offset: number, bytes: number) => void): number;
  ledger(): PathLedger;
  /** The worker lets go: closes what it opened itself. Frames come home by `FramePool.reclaim`. */
  detach(): void;
}

/** What a dead worker left of a path queue that no other thread can go on with: it is read out, and detached. */
export type LeftQueue = FrameHolder &
  Pick<PathQueue, 'path' | 'ready' | 'receive' | 'release' | 'takeBack' | 'detach'>;

/** What comes before a handler's own loop over a path's rings and after it: see turn.ts. */
export interface PathTurn {
  /** Where the words are that the loop is told of the rings, and answers in: `TurnWord` in memory/layout.ts. */
  readonly at: number;
  /** Cursors of the first packet, and of the slot where the first that is sent goes. */
  readonly from: number;
  readonly to: number;
  /** How many packets, `most` at most, wait and could all be sent. */
  begin(most: number): number;
  /** Packets that the loop has dealt with. */
  readonly done: number;
  /** After the loop, or its trap: counts what is done and stages what is sent. Returns how many are in the burst. */
  end(): number;
}

/** The descriptor of a path queue that only sends. */
export const NO_ARRIVALS = -2;

/** The coordinator's end. Its calls may take long. */
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
  engage?(): void;
  /** The opposite; nothing if it was not engaged. @throws ERR_KERNEL */
  disengage?(): void;
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
  /** How it is tied to the device: 'xdp link', 'tcx links', 'clsact filters', 'memory'. */
  tie: string;
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
