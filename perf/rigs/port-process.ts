/** A port in a process of its own, as its parent sees it: its memory can be read apart from the lab's, and it can be killed. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { OpenPortOptions } from '../../src/options.ts';
import { type PathName, SWITCH_MILLIS } from './lab.ts';
import type { PortStatus } from './port-program.ts';

export class PortProcess {
  readonly #child: ChildProcess;

  /** Starts it. The options hold no URL objects and no functions. */
  constructor(options: OpenPortOptions) {
    const program = fileURLToPath(new URL('./port-program.js', import.meta.url));
    this.#child = fork(program, [JSON.stringify(options)]);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Its status, as soon as the port is open. @throws Error when the process has ended */
  async status(audit = false): Promise<PortStatus> {
    const stop = new AbortController();
    const answer = once(this.#child, 'message', stop);
    const ended = once(this.#child, 'exit', stop).then(([code]): never => {
      throw new Error(`the port's process ended with ${code}`);
    });
    try {
      this.#child.send(audit);
      const [status] = await Promise.race([answer, ended]);
      return status as PortStatus;
    } finally {
      for (const unused of [answer, ended]) unused.catch(() => {});
      stop.abort();
    }
  }

  /** Until every queue transmits on that path. @throws Error */
  async ownedBy(path: PathName): Promise<void> {
    const deadline = performance.now() + SWITCH_MILLIS;
    while (!(await this.status()).owners.every((owner) => owner === path)) {
      if (performance.now() > deadline) throw new Error(`no switch to the ${path} path`);
      await sleep(5);
    }
  }

  async kill(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** Closes the port, if it has not ended. */
  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    await gone;
  }
}

/** Resident memory of a process. */
export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
