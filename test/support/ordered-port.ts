/** A port in a process of its own, in which a system call fails or a thread ends: fixtures/ordered-port.mjs. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { endWithTest } from './children.ts';
import { ECHO, type Lab, until } from './harness.ts';
import { temporary } from './process.ts';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** What Node is given so that a program's calls can fail; FAULTY_SHIM and FAULT say which. */
export const PRELOAD = ['--import', at('../fixtures/shim-faults.mjs')];

/** The shim, built for tests. */
export function faultyShim(): string {
  const shim = `${temporary()}/shim-faults.so`;
  const make = spawnSync('make', ['-s', '-C', at('../../native'), 'FAULTS=1', `OUT=${shim}`]);
  expect(String(make.stderr)).toBe('');
  return shim;
}

/** What goes wrong: see fixtures/shim-faults.mjs. */
export interface Fault {
  readonly thread: 'twinpath-coord' | 'twinpath-super' | 'twinpath-q0';
  /** Which call of that thread, from 1; 0 none, they are counted. */
  readonly call: number;
  readonly errno?: number;
  readonly dies?: boolean;
  readonly thereafter?: number;
  /** A file: while it is there, the thread is held in the function `holds`; or it `dies` after `call` more, and its successor is held. */
  readonly gate?: string;
  readonly holds?: string;
  /** A file that gets a line for each call of the thread. */
  readonly trace?: string;
}

export interface Failure {
  readonly name: string;
  readonly code: string;
  readonly message: string;
}

interface Answers {
  open: { opened: boolean; error?: Failure };
  look: {
    owners: string[];
    links: string[];
    moves: string[];
    errors: Failure[];
    closed: boolean;
    up: boolean;
    carriers: number;
  };
  close: { dropped: Record<string, number>; frames: { total: number; accounted: number }[] };
  left: { calls: number; descriptors: string[]; mappings: string[] };
}

/** Options of the ports, and the configuration that each of them gets. */
export interface OrderedOptions {
  readonly configuration?: object;
  readonly [option: string]: unknown;
}

/** An answer that has not come by then does not come: a hang. */
const ANSWER_MILLIS = 40_000;

export class OrderedPort {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  #stderr = '';

  private constructor(shim: string) {
    this.#child = spawn(process.execPath, [...PRELOAD, at('../fixtures/ordered-port.mjs')], {
      env: { ...process.env, FAULTY_SHIM: shim },
    });
    this.#child.stderr!.on('data', (data) => {
      this.#stderr += data;
    });
    this.#lines = createInterface({ input: this.#child.stdout! });
    endWithTest(this.#child);
  }

  static start(): OrderedPort {
    return new OrderedPort(faultyShim());
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** @throws if the process ends, or does not answer */
  async ask<T extends keyof Answers>(verb: T, order: object = {}): Promise<Answers[T]> {
    const answer = new Promise<string>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`'${verb}' hangs. ${this.#stderr}`)), ANSWER_MILLIS);
      const ended = (code: number | null, signal: string | null): void =>
        reject(new Error(`the process ended at '${verb}': ${code ?? signal}. ${this.#stderr}`));
      this.#child.once('exit', ended);
      this.#lines.once('line', (line) => {
        clearTimeout(late);
        this.#child.off('exit', ended);
        resolve(line);
      });
    });
    this.#child.stdin!.write(`${JSON.stringify({ do: verb, ...order })}\n`);
    return JSON.parse(await answer) as Answers[T];
  }

  /** Opens a port on each NIC of the lab. */
  open(lab: Lab, fault: Fault, options: OrderedOptions = {}): Promise<Answers['open']> {
    const { configuration, ...shared } = options;
    const ports = lab.nics.map(({ netvsc }) => ({ netvsc, force: true, configuration }));
    const all = { netns: lab.guest, ports, queues: lab.queues, ...shared };
    const address = lab.nics.map(({ guestAddress }) => guestAddress);
    const handler = { handler: ECHO.href, handlerOptions: { address } };
    return this.ask('open', { fault, options: { ...handler, ...all } });
  }

  /** The state of a port, and its events since it was opened. */
  look(port = 0): Promise<Answers['look']> {
    return this.ask('look', { port });
  }

  /** Waits until a path owns all queues of a port. */
  async ownedBy(path: string, port = 0): Promise<void> {
    await until(`all queues of port ${port} on ${path}`, async () => {
      const { owners } = await this.look(port);
      return owners.every((owner) => owner === path);
    });
  }
}
