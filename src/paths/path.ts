/**
 * A path queue: the worker's end of a path. Drivers are folders beside this file: `af-xdp`, `tap`, `memory`, `host`;
 * device.ts has the coordinator's end. It has a side that receives, a side that transmits, and its share of the frames.
 *
 * Ring calls take and return counts, never wait and never throw; the caller decides what to drop, and counts it. All of
 * it belongs to the worker thread of the queue.
 */
import type { FrameUser, PathLedger } from '../memory/frames.ts';
import type { PathId } from '../memory/layout.ts';

export interface PathQueue extends FrameUser {
  readonly path: PathId;
  /** What poll(2) wakes on when packets are there; -1 if nothing does; {@link NO_ARRIVALS} if none ever are. */
  readonly fd: number;
  readonly rx: Receiver;
  readonly tx: Transmitter;
  /** For a handler's `in_place`, where received and sent packets are descriptors in rings. */
  readonly inPlace?: InPlacePath;
  /** Offers the kernel free frames for packets to come. */
  refill(): void;
  ledger(): PathLedger;
  /** The worker leaves the path: closes what it opened itself. Frames come home by `FramePool.reclaim`. */
  detach(): void;
}

export interface Receiver {
  /**
   * Whether received packets lie in buffers of the path's own, which it takes back with {@link release}. Such a path also
   * says in the burst's `offload` array what is to be done for each.
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
   * Puts the next packets' memory offsets and lengths into the arrays, `max` at most, and returns how many. They stay in
   * the ring until {@link release}.
   */
  receive(offset: Int32Array, bytes: Int32Array, max: number): number;
  /** As `receive`, into the burst that lies at `burst` in the shared memory. Absent: there is no faster way. */
  receiveBurst?(burst: number, max: number): number;
  /** Gives back what the last `receive` or in-place call read, once every frame of it was passed on. */
  release(): void;
}

export interface Transmitter {
  /** Whether pushed packets still wait for the kernel to take them: then flush again soon. */
  readonly backlog: boolean;
  /** How many of `wanted` packets can be pushed now. */
  room(wanted: number): number;
  /** Stages one packet; only after `room` said so. */
  push(offset: number, bytes: number): void;
  /**
   * Stages packets of the burst that lies at `burst`, from `from` on and before `to`, and returns how many: it ends
   * before the first whose verdict is not TX, that is no frame or longer than `maxPacketBytes`, or that has no room. Absent:
   * one by one.
   */
  pushBurst?(burst: number, from: number, to: number, maxPacketBytes: number): number;
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
  /** Takes sent frames back into the pool. */
  complete(): void;
  /**
   * The owner word `order` moves the queue to another path: whether all that was pushed here has gone far enough, or
   * has been waited for long enough, for that one to send. Asked in each round until it has. Absent: always.
   *
   * @param leaves whether this path is left for good
   * @param waited nanoseconds since the order was seen
   */
  settled?(order: number, leaves: boolean, waited: number): boolean;
  /**
   * Names, oldest first, the packets the kernel has not taken. For a path that is left: afterwards the caller owns their
   * frames and nothing may be pushed here.
   */
  reclaimUnsent(visit: (offset: number, bytes: number) => void): number;
}

/** Nanoseconds that a switch waits for what was given to the path before: others may go on giving to it all the while. */
export const SETTLE_NANOS = 1e9;

/** The rest of a path queue whose worker died, and that no other thread can go on with: it is read out, and detached. */
export interface OrphanedRing extends FrameUser {
  readonly path: PathId;
  readonly rx: Pick<Receiver, 'ready' | 'receive' | 'release'>;
  readonly tx: Pick<Transmitter, 'reclaimUnsent'>;
  detach(): void;
}

/** What comes before a handler's own loop over a path's rings and after it: see in-place-rings.ts. */
export interface InPlacePath {
  /** Where the words are that the loop is told of the rings, and answers in: `InPlaceWord` in memory/wasm-abi.ts. */
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
