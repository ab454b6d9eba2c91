/**
 * The rest of a path queue: for a worker that sleeps on it, leaves it, or continues after a dead one, and for two ways of
 * moving packets that only some drivers have. path.ts has what moves packets.
 */
import type { FrameUser, PathLedger } from '../memory/frame-owners.ts';
import type { PathId } from '../memory/layout.ts';
import type { InPlaceRings } from './in-place-rings.ts';
import type { PathQueue, Receiver, Transmitter } from './path.ts';

export interface AttachedPath extends PathQueue, FrameUser {
  readonly tx: AttachedTransmitter;
  /** Readable when packets are there, for poll(2); -1 for a path without one; {@link NO_ARRIVALS} if it only sends. */
  readonly fd: number;
  /** For a handler's `in_place`; only of descriptor rings. */
  readonly inPlace?: InPlaceRings;
  ledger(): PathLedger;
  /** The worker leaves the path: closes what it opened itself. `FrameOwners.reclaim` frees the frames. */
  detach(): void;
}

export interface AttachedTransmitter extends Transmitter {
  /** Whether pushed packets still wait for the kernel to take them: then flush again soon. */
  readonly backlog: boolean;
  /**
   * Sends a large segment of the machine's own stack uncut, at once, and behind the packets pushed before; its offload
   * word says how to cut it. False: the caller cuts and pushes it. Absent: always false.
   */
  sendSegment?(offset: number, bytes: number, offload: number): boolean;
  /**
   * The owner word `order` moves the queue to another path: whether that one may send, because all packets pushed here
   * have gone far enough, or have been waited for long enough. Asked in each round until then. Absent: always true.
   *
   * @param leaves whether this path is left for good
   * @param waited nanoseconds since the order was seen
   */
  settled?(order: number, leaves: boolean, waited: number): boolean;
  /**
   * Calls `visit` for the packets that the kernel has not taken, oldest first. For a path that is left: afterwards the
   * caller owns their frames and pushes no more here.
   */
  reclaimUnsent(visit: (offset: number, bytes: number) => void): number;
}

/** The rings of a dead worker that no other thread can continue: they are read out, and detached. */
export interface OrphanedRing extends FrameUser {
  readonly path: PathId;
  readonly rx: Pick<Receiver, 'ready' | 'receive' | 'release'>;
  readonly tx: Pick<AttachedTransmitter, 'reclaimUnsent'>;
  detach(): void;
}

/** The longest wait of a switch for packets on the path before, in nanoseconds: others may go on pushing to it meanwhile. */
export const SETTLE_NANOS = 1e9;

/** The descriptor of a path queue that only sends. */
export const NO_ARRIVALS = -2;
