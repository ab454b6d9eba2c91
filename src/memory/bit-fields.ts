/** Several small values in one word, so that they are read and written at once. */
import { Path, type PathId } from './layout.ts';

/** What lies in a handoff ring: a packet for the handler of the queue that owns its flow, or one to be sent. */
export const HandoffKind = { PACKET: 0, SEND: 1 } as const;

/** The third word of a handoff ring's entry and the second of a copy: kind or port, and the path it came by. */
export const handoffMeta = (kind: number, path: number): number => (kind << 8) | path;
export const handoffKind = (meta: number): number => meta >>> 8;
export const handoffPath = (meta: number): PathId => (meta & 3) as PathId;

/** What a handler has been given: `1 << 31 | inPlace << 30 | port << 20 | source << 12 | packets`. */
export const handlingWord = (port: number, source: number, packets: number, inPlace = false): number =>
  (1 << 31) | (inPlace ? 1 << 30 : 0) | (port << 20) | (source << 12) | packets;
/** The source of packets that lie in a handoff ring; paths are 1 to 3. */
export const handoffSource = (from: number): number => 64 + from;

export const handlingPort = (word: number): number => (word >>> 20) & 0xff;
export const handlingSource = (word: number): number => (word >>> 12) & 0xff;
export const handlingPackets = (word: number): number => word & 0xfff;
/** Whether they lie in the receive ring and are not counted yet. */
export const handlingInPlace = (word: number): boolean => (word & (1 << 30)) !== 0;

/**
 * The owner word: `epoch << 8 | reclaim << 5 | attached << 2 | path`.
 *
 * - `path` (2 bits): which path the queue transmits on.
 * - `attached` (3 bits, bit p-1 for path p): which paths the worker polls.
 * - `reclaim` (3 bits): paths whose kernel objects are gone, so that the worker may take back every
 *   frame the kernel still held.
 * - `epoch` (24 bits): counts up with every order, so that no two orders look alike.
 */
export function ownerWord(epoch: number, path: PathId, attached: number, reclaim = 0): number {
  return (epoch << 8) | ((reclaim & 7) << 5) | ((attached & 7) << 2) | path;
}

export const ownerPath = (word: number): PathId => (word & 3) as PathId;
export const ownerAttached = (word: number): number => (word >>> 2) & 7;
export const ownerReclaim = (word: number): number => (word >>> 5) & 7;
export const ownerEpoch = (word: number): number => word >>> 8;
export const pathBit = (path: PathId): number => (path === Path.NONE ? 0 : 1 << (path - 1));
