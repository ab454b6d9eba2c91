/** The machine and this process as the kernel sees them: page size, version, user, scheduling priority. Any thread. */
import { readFileSync, readlinkSync } from 'node:fs';
import { getPriority, release, setPriority } from 'node:os';

/** AT_PAGESZ, include/uapi/linux/auxvec.h. */
const AT_PAGESZ = 6n;

/** The kernel's page size: 4096, or 16384 or 65536 on some arm64 kernels. Ring mappings are whole pages. */
export function pageSize(): number {
  const vector = readFileSync('/proc/self/auxv');
  for (let at = 0; at + 16 <= vector.length; at += 16) {
    if (vector.readBigUInt64LE(at) === AT_PAGESZ) return Number(vector.readBigUInt64LE(at + 8));
  }
  return 4096;
}

/**
 * CPUs that the machine may ever have, plugged in or not: the copies of a per-CPU map's value. The kernel's list is like
 * '0-3,8' (Documentation/admin-guide/cputopology.rst).
 */
export function possibleCpus(): number {
  return countCpus(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
}

/** The CPUs in such a list. */
export function countCpus(list: string): number {
  return list
    .trim()
    .split(',')
    .map((range) => range.split('-').map(Number))
    .reduce((sum, [first = 0, last = first]) => sum + last - first + 1, 0);
}

/** The calling thread's number in the kernel (gettid); 0 without /proc. */
export function threadNumber(): number {
  try {
    return Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch {
    return 0;
  }
}

/**
 * Nanoseconds that a thread of this process has run on a CPU; 0 if it has ended, or without /proc. The first number of schedstat
 * (Documentation/scheduler/sched-stats.rst).
 */
export function cpuNanosOf(thread: number): number {
  try {
    return Number(readFileSync(`/proc/self/task/${thread}/schedstat`, 'ascii').split(' ')[0]);
  } catch {
    return 0;
  }
}

/** Whether the running kernel has at least this version; false if its name does not begin with a version. */
export function kernelIsAtLeast(major: number, minor: number, name = release()): boolean {
  const [, a, b] = /^(\d+)\.(\d+)/.exec(name) ?? [];
  if (a === undefined) return false;
  return Number(a) > major || (Number(a) === major && Number(b) >= minor);
}

/** Whether the effective user is root. In a container root may lack capabilities; the system calls then report it. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** With workers that keep every CPU busy, a failover must not wait until their time slices end. */
const CONTROL_NICENESS = -10;
const THIS_THREAD = 0;

/**
 * Schedules the calling thread before the workers. setpriority(2) is per thread on Linux, and new threads inherit it.
 * Without CAP_SYS_NICE nothing changes.
 */
export function raisePriority(): void {
  setNiceness(CONTROL_NICENESS);
}

/** Gives the calling thread the priority of the process's first thread. */
export function resetPriority(): void {
  setNiceness(getPriority(process.pid));
}

function setNiceness(niceness: number): void {
  try {
    setPriority(THIS_THREAD, niceness);
  } catch {} // without CAP_SYS_NICE
}
