/** path-watch.c in the host namespace of a lab: when the guest's packets change their path, as the switch sees it. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { peerProgram } from './program.ts';

export interface PathChange {
  readonly path: 'synthetic' | 'vf';
  /** When the kernel had the first packet by it, CLOCK_MONOTONIC. */
  readonly atNanos: number;
}

export class PathWatch {
  readonly #child: ChildProcessWithoutNullStreams;
  #out = '';
  #err = '';

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    child.stdout.on('data', (data) => {
      this.#out += data;
    });
    child.stderr.on('data', (data) => {
      this.#err += data;
    });
  }

  /** Watches the switch of a lab's first NIC. @throws when it cannot */
  static async start(lab: { readonly host: string }): Promise<PathWatch> {
    const program = peerProgram('path-watch');
    const watch = new PathWatch(spawn('ip', ['netns', 'exec', lab.host, program, 's0', 'p0']));
    await Promise.race([once(watch.#child.stdout, 'data'), once(watch.#child, 'close')]);
    if (watch.#child.exitCode !== null) throw new Error(watch.#err.trim() || 'path-watch ended at once');
    return watch;
  }

  /** Every change so far, in order. @throws when it has missed packets */
  async stop(): Promise<PathChange[]> {
    const closed = once(this.#child, 'close');
    this.#child.stdin.end();
    await closed;
    const lines = this.#out.trim().split('\n').slice(1);
    const last = lines.pop();
    if (last !== 'dropped 0') throw new Error(`path-watch missed packets: ${last ?? this.#err.trim()}`);
    return lines.map((line) => {
      const [path, nanos] = line.split(' ');
      return { path: path as PathChange['path'], atNanos: Number(nanos) };
    });
  }
}
