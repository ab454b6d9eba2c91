/** The kernel's page size: 4096, or 16384 or 65536 on some arm64 kernels. Ring mappings are counted in it. */
import { readFileSync } from 'node:fs';

/** AT_PAGESZ, include/uapi/linux/auxvec.h. */
const AT_PAGESZ = 6n;

export function pageSize(): number {
  const vector = readFileSync('/proc/self/auxv');
  for (let at = 0; at + 16 <= vector.length; at += 16) {
    if (vector.readBigUInt64LE(at) === AT_PAGESZ) return Number(vector.readBigUInt64LE(at + 8));
  }
  return 4096;
}
