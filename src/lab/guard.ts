/**
 * Takes down the labs of this process when it ends without having done so: by SIGKILL, or by `process.exit`.
 *
 * The guard is a shell that reads from a pipe. `release` writes a line to it; the end of the pipe without that line means
 * that the process has ended. Then the guard kills what runs in the namespaces of its labs, deletes them, and removes the
 * settings that its ports have saved of virtual devices (kernel/settings-store.ts): these devices are gone. It has a
 * session of its own, so that neither Ctrl-C nor the end of a terminal reaches it. Needs sh, grep and iproute2.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';

/** $1: the process id in the names of the namespaces. Two passes: a process may fork while the first one is under way. */
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

export class LabGuard {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Start it before the lab is built. Without sh there is no guard: the next lab then removes what a killed one left. */
  static start(): LabGuard {
    const child = spawn('sh', ['-c', SCRIPT, 'sh', String(process.pid)], {
      ...{ cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'ignore'] },
    });
    child.on('error', () => {});
    child.stdin?.on('error', () => {});
    child.unref();
    (child.stdin as Socket | null)?.unref();
    return new LabGuard(child);
  }

  /** Ends the guard: every lab of this process has been closed. */
  release(): void {
    this.#child.stdin?.end('released\n');
  }
}
