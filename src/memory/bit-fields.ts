/** Several small values in one word, so that one access reads or writes them together. Pure; any thread. */
import { Path, type PathId } from './layout.ts';

/**
 * The owner word of a queue: `epoch << 8 | reclaim << 5 | attached << 2 | path`.
 *
 * - `path` (2 bits): the path that the queue transmits on.
 * - `attached` (3 bits, bit p-1 for path p): the paths that the worker polls.
 * - `reclaim` (3 bits): paths whose kernel objects are gone, so that the worker may take back every frame the kernel
 *   still held.
 * - `epoch` (24 bits): incremented with every order, so that no two orders are equal.
 */
export function ownerWord(epoch: number, path: PathId, attached: number, reclaim = 0): number {
  return (epoch << 8) | ((reclaim & 7) << 5) | ((attached & 7) << 2) | path;
}

export const ownerPath = (word: number): PathId => (word & 3) as PathId;
export const ownerAttached = (word: number): number => (word >>> 2) & 7;
export const ownerReclaim = (word: number): number => (word >>> 5) & 7;
export const ownerEpoch = (word: number): number => word >>> 8;
export const pathBit = (path: PathId): number => (path === Path.NONE ? 0 : 1 << (path - 1));

/**
 * The owner of a frame, in 16 bits. The present owner writes it, before it publishes the frame to the next one.
 *
 * ```
 *   at a path            queue << 8 | port << 4 | TX(8) or FILL(4) | path (1 … 3)
 *   in a handoff ring    to << 10   | from << 4 | 2
 *   in a return ring     to << 10   | from << 4 | 3
 *   at the application   the same: from and to are the worker that delivered it, which takes it back
 *   in hand              worker << 4            | 1      a packet that is being made or moved
 *   free                 0                               on the stack of its own worker
 * ```
 */
export const FrameOwner = { NONE: 0, HAND: 1, HANDOFF: 2, RETURN: 3, FILL: 4, TX: 8 } as const;

const PURPOSE = FrameOwner.FILL | FrameOwner.TX;

/** Names one path queue in an owner, beside FILL or TX. */
export const ownerTag = (queue: number, port: number, path: PathId): number =>
  (queue << 8) | (port << 4) | path;

export const handoffOwner = (from: number, to: number): number =>
  (to << 10) | (from << 4) | FrameOwner.HANDOFF;
export const returnOwner = (from: number, to: number): number => (to << 10) | (from << 4) | FrameOwner.RETURN;
/** Until that worker takes it back: the application writes no owner. See delivery-ring.ts. */
export const deliveryOwner = (worker: number): number => returnOwner(worker, worker);
export const handOwner = (worker: number): number => (worker << 4) | FrameOwner.HAND;

/** FILL, TX, or 0 for a frame that is at no path. */
export const purposeOf = (owner: number): number => owner & PURPOSE;
/** Of a frame at a path. */
export const tagOf = (owner: number): number => owner & ~PURPOSE;
export const tagQueue = (tag: number): number => tag >>> 8;
/** HAND, HANDOFF, RETURN or NONE, of a frame at no path. */
export const codeOf = (owner: number): number => owner & 15;
/** The worker in an owner without a path: it has the frame in hand, or put it into the handoff ring. */
export const workerOf = (owner: number): number => (owner >>> 4) & 63;

/** Whether a frame is in a delivery ring, published or not, or was there and has not been taken back. */
export const isDelivery = (owner: number): boolean =>
  (owner & 15) === FrameOwner.RETURN && owner >>> 10 === workerOf(owner);

/** What a handoff ring carries: a packet for the handler of the queue that owns its flow, or one to be sent. */
export const HandoffKind = { PACKET: 0, SEND: 1 } as const;

/** The third word of a handoff ring's entry and the second of a copy: kind or port, and the path it came by. */
export const handoffMeta = (kind: number, path: number): number => (kind << 8) | path;
export const handoffKind = (meta: number): number => meta >>> 8;
export const handoffPath = (meta: number): PathId => (meta & 3) as PathId;
