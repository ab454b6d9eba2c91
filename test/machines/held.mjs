/** A port in a process of its own, which can be killed. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { netvscName } from './machine.mjs';

const PROGRAM = fileURLToPath(new URL('../fixtures/held-port.mjs', import.meta.url));

/** Stands where a scenario's machine has its port: it knows the owners of the queues, and nothing else. */
export class HeldPort {
  #child;
  #owners = [];

  static async open() {
    const held = new HeldPort();
    const child = spawn(process.execPath, [PROGRAM, '', netvscName(), '10.77.0.2', 'tcx', 'pair'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    held.#child = child;
    const opened = new Promise((resolve, reject) => {
      let rest = '';
      child.stdout.on('data', (data) => {
        const lines = (rest + data).split('\n');
        rest = lines.pop();
        for (const line of lines) {
          if (line === 'open') resolve();
          else held.#owners = line.split(' ');
        }
      });
      child.on('exit', (code) => reject(new Error(`the port's process ended with ${code}`)));
    });
    await opened;
    return held;
  }

  paths = {};

  stats() {
    return { queues: this.#owners.map((owner) => ({ owner })) };
  }

  /** Again, it does nothing. */
  async kill() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}
