/**
 * The holder of a frame: to whom it was given, in 16 bits.
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

/** Codes of a holder; FILL and TX stand beside a path's number. */
export const Holder = { NONE: 0, HAND: 1, HANDOFF: 2, RETURN: 3, FILL: 4, TX: 8 } as const;

const PURPOSE = Holder.FILL | Holder.TX;

/** Names one path queue in a holder, beside FILL or TX. */
export const holderTag = (queue: number, port: number, path: PathId): number =>
  (queue << 8) | (port << 4) | path;

export const handoffHolder = (from: number, to: number): number => (to << 10) | (from << 4) | Holder.HANDOFF;
export const returnHolder = (from: number, to: number): number => (to << 10) | (from << 4) | Holder.RETURN;
export const handHolder = (worker: number): number => (worker << 4) | Holder.HAND;

/** FILL, TX, or 0 for a frame that is at no path. */
export const purposeOf = (holder: number): number => holder & PURPOSE;
/** Of a frame at a path. */
export const tagOf = (holder: number): number => holder & ~PURPOSE;
export const tagQueue = (tag: number): number => tag >>> 8;
/** HAND, HANDOFF, RETURN or NONE, of a frame at no path. */
export const codeOf = (holder: number): number => holder & 15;
/** The worker that a holder without a path names: who has it in hand, or put it into the handoff ring. */
export const workerOf = (holder: number): number => (holder >>> 4) & 63;
