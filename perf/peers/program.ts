/** The C programs in this folder. Each is compiled when it is needed first, and runs in a network namespace. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { TwinpathError } from '../../src/errors.ts';
import { packageRoot } from '../../src/package-root.ts';

/** The measured program's CPU, on which a port with `pin` has its first worker; and the CPU of senders and askers. */
export const FIRST_CPU = 0;
export const LAST_CPU = cpus().length - 1;

/** What a program may take to end. */
const STOP_MILLIS = 2000;

/** The error of a benchmark whose peer is not on this machine. */
export const missing = (peer: string, more = ''): Error =>
  new Error(`${peer} is not installed here: run perf/peers/install, as root (Debian, Ubuntu)${more}.`);

/** Path of the program made of perf/peers/NAME.c. @throws Error when cc is missing; ERR_KERNEL when it fails */
export function compiled(name: string): string {
  const source = join(packageRoot, 'perf', 'peers', `${name}.c`);
  const folder = join(packageRoot, 'build', 'peers');
  const program = join(folder, name);
  const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const headers = ['peer.h', 'xsk.h'].map((header) => join(source, '..', header));
  if (modified(program) >= Math.max(...[source, ...headers].map(modified))) return program;
  mkdirSync(folder, { recursive: true });
  const unfinished = `${program}.${process.pid}`;
  const args = ['-O3', '-march=native', '-Wall', '-Wextra', '-Werror', '-o', unfinished, source];
  const { status, stderr, error } = spawnSync('cc', args, { encoding: 'utf8' });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') throw missing('cc, a C compiler,');
  if (status !== 0) {
    const detail = error?.message ?? stderr.trim().split('\n')[0] ?? 'cc failed';
    throw new TwinpathError('ERR_KERNEL', { device: source, detail });
  }
  renameSync(unfinished, program);
  return program;
}

/** A C program that runs, or any other peer that is started in a namespace. The caller stops it. */
export class Peer {
  readonly child: ChildProcess;
  /** Resolves when it has ended and its output is complete. */
  readonly closed: Promise<unknown>;
  readonly #name: string;
  #out = '';
  #err = '';

  constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.child = child;
    this.closed = once(child, 'close');
    this.closed.catch(() => {}); // `output` reports it
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#err += text;
    });
    child.stdin?.on('error', () => {}); // it has ended before
  }

  /** Starts perf/peers/NAME.c in a namespace. @throws Error when cc is missing */
  static start(namespace: string, name: string, ...args: readonly (string | number)[]): Peer {
    return Peer.inNamespace(namespace, compiled(name), ...args);
  }

  /** Starts a program in a namespace; undefined: this process's. */
  static inNamespace(
    namespace: string | undefined,
    program: string,
    ...args: readonly (string | number)[]
  ): Peer {
    const line = [program, ...args.map(String)];
    const [command, ...rest] = namespace === undefined ? line : ['ip', 'netns', 'exec', namespace, ...line];
    return new Peer(program.split('/').at(-1)!, spawn(command!, rest));
  }

  /** What it has printed so far. */
  get printed(): string {
    return this.#out;
  }

  /** The same, followed by its standard error. */
  get words(): string {
    return this.#out + this.#err;
  }

  get running(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Until it has printed something. @throws Error with its last words if it ends before that */
  async ready(): Promise<this> {
    while (this.#out === '' && this.running)
      await Promise.race([once(this.child.stdout!, 'data'), this.closed]);
    if (!this.running) throw this.#failure();
    return this;
  }

  /** Until it ends by itself: what it has printed. @throws Error with its last words if it has failed */
  async output(): Promise<string> {
    await this.closed;
    if (this.child.exitCode !== 0) throw this.#failure();
    return this.#out;
  }

  /** Ends its standard input, which ends the program: what it has printed. @throws Error like {@link output} */
  stop(): Promise<string> {
    this.child.stdin!.end();
    setTimeout(() => this.child.kill('SIGKILL'), STOP_MILLIS).unref();
    return this.output();
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.closed;
  }

  #failure(): Error {
    const words = this.#err.trim().split('\n').at(-1);
    return new Error(words || `${this.#name} ended with ${this.child.exitCode ?? this.child.signalCode}`);
  }
}
