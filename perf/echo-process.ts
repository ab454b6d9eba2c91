/** The process of echo-port.ts, as its parent holds it: so that a port can be weighed without a lab beside it. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Lab } from '../src/lab/host.ts';
import type { Told } from './echo-port.ts';

export interface EchoProcessOptions {
  readonly queues: number;
  /** Of a queue. */
  readonly frames: number;
}

/** For a change of path. */
const PATIENCE_MILLIS = 10_000;

export class EchoProcess {
  readonly #child: ChildProcess;

  /** Starts it; it opens a port in the guest of a lab. */
  constructor(lab: Lab, { queues, frames }: EchoProcessOptions) {
    const program = fileURLToPath(new URL('./echo-port.js', import.meta.url));
    const { netvsc, guestAddress } = lab.nic;
    this.#child = fork(program, [lab.guest, netvsc, guestAddress, String(queues), String(frames)]);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Asks it; before the port is open the answer comes when it is. @throws when it has ended */
  async ask(): Promise<Told> {
    const ended = once(this.#child, 'exit').then(([code]): never => {
      throw new Error(`the port's process ended with ${code}`);
    });
    const answer = once(this.#child, 'message');
    this.#child.send('tell');
    const [told] = await Promise.race([answer, ended]);
    ended.catch(() => {});
    return told as Told;
  }

  async ownedBy(path: 'vf' | 'synthetic'): Promise<void> {
    const deadline = performance.now() + PATIENCE_MILLIS;
    while (!(await this.ask()).owners.every((owner) => owner === path)) {
      if (performance.now() > deadline) throw new Error(`no switch to the ${path} path`);
      await sleep(5);
    }
  }

  async close(): Promise<void> {
    const gone = once(this.#child, 'exit');
    if (this.#child.connected) this.#child.disconnect();
    if (this.#child.exitCode === null) await gone;
  }
}

/** What of a process lies in memory. */
export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]);
}

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;
