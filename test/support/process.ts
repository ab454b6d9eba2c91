/** A program that a test runs as a user would. It is killed when the test ends; its output is kept. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { endWithTest } from './children.ts';
import { until } from './harness.ts';
import { inPublicCopy, NOBODY, ROOT } from './nobody.ts';

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Run by the user nobody. */
  readonly nobody?: boolean;
  /** Keeps standard input open, until the test ends it. */
  readonly input?: boolean;
  /** A descriptor for standard output instead of a pipe. */
  readonly stdout?: number;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running program; `outcome` settles when it has exited. */
export class Run {
  readonly child: ChildProcess;
  readonly outcome: Promise<Outcome>;
  stdout = '';
  stderr = '';

  constructor(command: readonly string[], { env, nobody, input, stdout }: RunOptions = {}) {
    const [program = '', ...args] = nobody ? inPublicCopy(command) : command;
    const home = nobody ? temporary() : undefined;
    this.child = spawn(program, args, {
      stdio: [input ? 'pipe' : 'ignore', stdout ?? 'pipe', 'pipe'],
      ...(nobody ? { uid: NOBODY, gid: NOBODY, env: { PATH: process.env.PATH, HOME: home } } : { env }),
    });
    this.child.stdout?.on('data', (data) => {
      this.stdout += data;
    });
    this.child.stderr?.on('data', (data) => {
      this.stderr += data;
    });
    this.outcome = new Promise((resolve) => {
      this.child.on('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }));
    });
    onTestFinished(() => void this.child.kill('SIGKILL'));
  }

  /** Waits until standard error contains the words. */
  said(words: string): Promise<void> {
    return until(`"${words}"`, () => {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.stderr}`);
      return this.stderr.includes(words);
    });
  }
}

const MAIN = join(ROOT, 'dist/src/cli/main.js');

/** Starts the built command. */
export const start = (args: readonly string[], options?: RunOptions): Run =>
  new Run([process.execPath, MAIN, ...args], options);

/** Runs the built command to its end. */
export const twinpath = (args: readonly string[], options?: RunOptions): Promise<Outcome> =>
  start(args, options).outcome;

/** Runs command lines to their ends, in order, all in one process of their own: for those that open nothing. */
export async function commandLines(lines: readonly (readonly string[])[]): Promise<Outcome[]> {
  const child = fork(join(ROOT, 'test/fixtures/command-lines.mjs'));
  endWithTest(child);
  const outcomes: Outcome[] = [];
  for (const args of lines) {
    child.send(args);
    const [outcome] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => {
        throw new Error(`the process ended at "${args.join(' ')}"`);
      }),
    ]);
    outcomes.push(outcome);
  }
  return outcomes;
}

/** A folder that every user may read, removed when the test ends. */
export function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), `tp-${process.pid}-`));
  chmodSync(folder, 0o755);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
