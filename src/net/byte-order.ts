/** A 16-bit number in network order, as a little-endian machine loads and stores it: byteorder(3). */
export function htons(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}
