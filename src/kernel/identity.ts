/** Who this process is to the kernel. Any thread. */

/** Whether the effective user is root. It may still lack capabilities, in a container: calls then say so. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
