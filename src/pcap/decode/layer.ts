/**
 * What the decoders have in common. A decoder reads one header from its first byte on, within the bytes that were captured, and
 * trusts no length that the header claims. If the header is cut, there is none: the layer around it has null as payload.
 */
import type { EventEmitter } from 'node:events';

/** Where a decoded layer is announced, inner layers first. */
export type Emitter = Pick<EventEmitter, 'emit'> | undefined;

/** The bytes of a layer: `bytes` from `at` to `end`. */
export interface Span {
  readonly bytes: Buffer;
  readonly at: number;
  readonly end: number;
}

/** From so many bytes on, and at most so many. */
export function inner({ bytes, at, end }: Span, from: number, length = Number.POSITIVE_INFINITY): Span {
  const start = Math.min(at + from, end);
  return { bytes, at: start, end: Math.min(end, start + Math.max(0, length)) };
}

export const bytesOf = ({ at, end }: Span): number => end - at;

/** As it is shown behind the layer around it. */
export const shown = (payload: unknown): string => (payload === null ? '' : String(payload));
