/**
 * Which threads the scheduler lets before others: setpriority(2), by thread on Linux. Threads inherit it from the
 * thread that made them. Without CAP_SYS_NICE things go on as they are.
 */
import { getPriority, setPriority } from 'node:os';

/** As nice(1) counts: on CPUs that workers keep busy, a failover does not wait for the end of their slices. */
const NICENESS = -10;
const THIS_THREAD = 0;

/** The calling thread goes before workers. */
export function raisePriority(): void {
  set(NICENESS);
}

/** The calling thread is as nice as the process's first one. */
export function resetPriority(): void {
  set(getPriority(process.pid));
}

function set(niceness: number): void {
  try {
    setPriority(THIS_THREAD, niceness);
  } catch {} // not allowed
}
