/**
 * Ends what runs in a lab's namespaces, and removes the labs of a process that was killed. Needs root. Any thread.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { namespacePath } from '../kernel/namespace.ts';
import { nowNanos } from '../memory/shared.ts';

/** How long processes may take to end before they are killed. */
const GRACE_MILLIS = 1000;
/** How long a killed process may take to release memory and files. */
const KILLED_MILLIS = 5000;

/**
 * Ids of the processes whose main thread is in one of the namespaces, as `ip netns pids` finds them. A process with only
 * other threads there, such as a lab's owner, is not included.
 */
export function processesIn(namespaces: readonly string[]): number[] {
  const inodes = new Set(namespaces.map((name) => inode(namespacePath(name))));
  inodes.delete(undefined);
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => inodes.has(inode(`/proc/${pid}/ns/net`)))
    .map(Number);
}

/**
 * Sends a signal to each process in the namespaces, and after a second SIGKILL to those that still run. Resolves when all
 * have ended, or five seconds after SIGKILL.
 */
export async function endProcesses(namespaces: readonly string[], signal: NodeJS.Signals): Promise<void> {
  sendSignal(processesIn(namespaces), signal);
  if (await ended(namespaces, GRACE_MILLIS)) return;
  sendSignal(processesIn(namespaces), 'SIGKILL');
  await ended(namespaces, KILLED_MILLIS);
}

async function ended(namespaces: readonly string[], millis: number): Promise<boolean> {
  const deadline = nowNanos() + millis * 1e6;
  while (processesIn(namespaces).length > 0) {
    if (nowNanos() > deadline) return false;
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

/** Of a namespace; undefined if the path does not exist (any more). */
function inode(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch {
    return undefined;
  }
}

/** $1: the process id in the names of the namespaces. Two passes, because a process may fork during the first. */
const SCRIPT = `
trap '' HUP INT TERM
read -r released && exit
for pass in 1 2; do
  for path in /run/netns/tp-$1-*; do
    [ -e "$path" ] && ip netns pids "\${path##*/}" | while read -r pid; do kill -KILL "$pid"; done
  done
done
for path in /run/netns/tp-$1-*; do
  [ -e "$path" ] && ip netns delete "\${path##*/}"
done
for file in /run/twinpath/netns-*.json; do
  grep -q '"pid":'$1, "$file" && rm -f "$file"
done`;

/**
 * Removes the labs of this process if it ends without closing them: by SIGKILL, or by `process.exit`.
 *
 * The guard is a shell that reads from a pipe. `release` writes a line to it; end of file without that line means that the
 * process has ended. Then the guard kills the processes in the namespaces of its labs, deletes the namespaces, and removes
 * the settings that ports have saved of their virtual devices (kernel/settings-store.ts), which no longer exist. It runs in
 * a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it. Needs sh, grep and iproute2.
 */
export class LabGuard {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Start it before the lab is created. Without sh there is no guard; then the next lab removes what a killed process left. */
  static start(): LabGuard {
    const child = spawn('sh', ['-c', SCRIPT, 'sh', String(process.pid)], {
      cwd: '/',
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.on('error', () => {});
    child.stdin?.on('error', () => {});
    child.unref();
    (child.stdin as Socket | null)?.unref();
    return new LabGuard(child);
  }

  /** Ends the guard. Call it when every lab of this process has been closed. */
  release(): void {
    this.#child.stdin?.end('released\n');
  }
}
