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
  /** Rejects when the process has ended. */
  readonly #ended: Promise<never>;

  /** Starts it. The options hold no URL objects and no functions. */
  constructor(options: OpenPortOptions) {
    const program = fileURLToPath(new URL('./port-program.js', import.meta.url));
    this.#child = fork(program, [JSON.stringify(options)]);
    this.#ended = once(this.#child, 'exit').then(([code]): never => {
      throw new Error(`the port's process ended with ${code}`);
    });
    this.#ended.catch(() => {}); // `status` reports it
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Its status, as soon as the port is open. @throws Error when the process has ended */
  async status(audit = false): Promise<PortStatus> {
    this.#child.send(audit, () => {}); // a process that has ended takes no message
    const [status] = await Promise.race([once(this.#child, 'message'), this.#ended]);
    return status;
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
    this.#child.kill('SIGKILL');
    await this.#ended.catch(() => {});
  }

  /** Closes the port, if it has not ended. */
  async close(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#ended.catch(() => {});
  }
}

/** Resident memory of a process. */
export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
