/** Memory that the caller gives to a table, so that several threads, or a worker after another's death, have the same content. */

/** Zeros, or what an object of the same kind and size has left there. */
export interface StateMemory {
  readonly buffer: ArrayBufferLike;
  /** Position in bytes, a multiple of 8. Default 0. */
  readonly at?: number;
}

/**
 * The position in `memory` of `bytes` bytes.
 *
 * @throws RangeError if they do not fit there
 */
export function placeIn({ buffer, at = 0 }: StateMemory, bytes: number): number {
  if (Number.isInteger(at) && at >= 0 && at % 8 === 0 && at + bytes <= buffer.byteLength) return at;
  throw new RangeError(`${bytes} bytes at ${at} do not fit ${buffer.byteLength} bytes in steps of 8`);
}

/** @throws RangeError if `value` is not a whole number from `least` to `most` */
export function wholeFrom(name: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new RangeError(`${name} is ${value}: it must be a whole number from ${least} to ${most}`);
}
