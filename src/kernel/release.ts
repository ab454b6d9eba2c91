/** The running kernel's version. */
import { release } from 'node:os';

/** Whether it is that version or a later one; of one whose name is no version, no. */
export function kernelIsAtLeast(major: number, minor: number, name = release()): boolean {
  const [, a, b] = /^(\d+)\.(\d+)/.exec(name) ?? [];
  if (a === undefined) return false;
  return Number(a) > major || (Number(a) === major && Number(b) >= minor);
}
