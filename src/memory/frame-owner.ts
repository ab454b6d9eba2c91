/**
 * The owner of a frame: to whom it was given, in 16 bits.
 *
 * ```
 *   at a path    queue << 8 | port << 4 | TX(8) or FILL(4) | path (1 … 3)
 *   in a handoff ring    to << 10   | from << 4 | 2
 *   way home     to << 10   | from << 4 | 3
 *   in hand      worker << 4            | 1      a packet that is being made or moved
 *   free         0                                on the stack of its own worker
 * ```
 *
 * Written by whoever has the frame, before it is published to the next one. Pure; any thread.
 */
import type { PathId } from './layout.ts';

/** Codes of an owner; FILL and TX stand beside a path's number. */
export const FrameOwner = { NONE: 0, HAND: 1, HANDOFF: 2, RETURN: 3, FILL: 4, TX: 8 } as const;

const PURPOSE = FrameOwner.FILL | FrameOwner.TX;

/** Names one path queue in an owner, beside FILL or TX. */
export const ownerTag = (queue: number, port: number, path: PathId): number =>
  (queue << 8) | (port << 4) | path;

export const handoffOwner = (from: number, to: number): number =>
  (to << 10) | (from << 4) | FrameOwner.HANDOFF;
export const returnOwner = (from: number, to: number): number => (to << 10) | (from << 4) | FrameOwner.RETURN;
export const handOwner = (worker: number): number => (worker << 4) | FrameOwner.HAND;

/** FILL, TX, or 0 for a frame that is at no path. */
export const purposeOf = (owner: number): number => owner & PURPOSE;
/** Of a frame at a path. */
export const tagOf = (owner: number): number => owner & ~PURPOSE;
export const tagQueue = (tag: number): number => tag >>> 8;
/** HAND, HANDOFF, RETURN or NONE, of a frame at no path. */
export const codeOf = (owner: number): number => owner & 15;
/** The worker that an owner without a path names: who has it in hand, or put it into the handoff ring. */
export const workerOf = (owner: number): number => (owner >>> 4) & 63;
