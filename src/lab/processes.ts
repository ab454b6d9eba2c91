/**
 * The processes that run in network namespaces, found by their main thread's namespace as `ip netns pids` does it.
 *
 * A process whose other threads alone are in one, as a lab's owner, is not among them. Needs root. Any thread.
 */
import { readdirSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { namespacePath } from '../kernel/namespace.ts';
import { monotonicNanos } from './clock.ts';

/** How long processes have to end by themselves before they are killed. */
const GRACE_MILLIS = 1000;
/** How long a killed process may take: it may have memory or files to give back. */
const KILLED_MILLIS = 5000;

/** Process ids; namespaces that are gone have none. */
export function processesIn(namespaces: readonly string[]): number[] {
  const inodes = new Set(namespaces.map((name) => inode(namespacePath(name))));
  inodes.delete(undefined);
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => inodes.has(inode(`/proc/${pid}/ns/net`)))
    .map(Number);
}

/**
 * Sends a signal to each process in the namespaces, and SIGKILL after a second to those that have not ended. Resolves
 * when there are none, or when the kernel has not ended a killed one within five seconds.
 */
export async function endProcesses(namespaces: readonly string[], signal: NodeJS.Signals): Promise<void> {
  sendSignal(processesIn(namespaces), signal);
  if (await ended(namespaces, GRACE_MILLIS)) return;
  sendSignal(processesIn(namespaces), 'SIGKILL');
  await ended(namespaces, KILLED_MILLIS);
}

async function ended(namespaces: readonly string[], millis: number): Promise<boolean> {
  const deadline = monotonicNanos() + millis * 1e6;
  while (processesIn(namespaces).length > 0) {
    if (monotonicNanos() > deadline) return false;
    await sleep(10);
  }
  return true;
}

function sendSignal(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Of the namespace that a handle stands for; undefined if there is no such handle, or its process has ended. */
function inode(handle: string): number | undefined {
  try {
    return statSync(handle).ino;
  } catch {
    return undefined;
  }
}
