/**
 * Runs a program with everything it starts in a process group of its own, within limits of time and disk, and leaves
 * none of it behind.
 *
 * The first Ctrl-C (or SIGTERM, SIGHUP) is passed on to the group once and asks for a good end; the second one ends the
 * group. A group is also ended when a limit is reached, and when its first process has gone and others have not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Guard {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  readonly timeoutSeconds: number;
  /** What lies under this folder counts. */
  readonly folder: string;
  readonly mostBytes: number;
  /** What the program prints. */
  output(text: string, stream: 'stdout' | 'stderr'): void;
}

export interface Outcome {
  /** Exit code of the program; null if a signal ended it. */
  readonly code: number | null;
  /** Why it was ended, or undefined if it ended by itself. */
  readonly ended: string | undefined;
  /** The code of the signal that asked for an end; 0 if none did. */
  readonly interrupted: number;
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
const LOOK_MILLIS = 250;
/** What is left of a group after SIGKILL is gone within microseconds; a zombie may wait for its parent. */
const GONE_MILLIS = 2000;

/** @throws Error if the program cannot be started */
export async function runGuarded(command: string, args: readonly string[], guard: Guard): Promise<Outcome> {
  const { cwd, env, timeoutSeconds, folder, mostBytes, output } = guard;
  const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const gone = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    // All output has come by then. What the program left behind may hold its streams open: the timer ends that.
    child.once('close', resolve);
  });
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => output(text, stream));
  }
  let ended: string | undefined;
  let interrupted = 0;
  const end = (why: string): void => {
    ended ??= why;
    signal(child, 'SIGKILL');
  };
  const handlers = Object.entries(SIGNALS).map(([name, code]) => {
    const handler = (): void => {
      if (interrupted !== 0) end('interrupted twice');
      else signal(child, 'SIGINT');
      interrupted = code;
    };
    process.on(name, handler);
    return [name, handler] as const;
  });
  const deadline = performance.now() + timeoutSeconds * 1000;
  const timer = setInterval(() => {
    if (performance.now() > deadline) end(`it had not ended after ${timeoutSeconds} s`);
    else if (bytesUnder(folder) > mostBytes) end(`it wrote more than ${Math.round(mostBytes / 1e6)} MB`);
  }, LOOK_MILLIS);
  try {
    const code = await gone;
    return { code, ended, interrupted };
  } finally {
    clearInterval(timer);
    for (const [name, handler] of handlers) process.off(name, handler);
    signal(child, 'SIGKILL');
    for (let waited = 0; signal(child, 0) && waited < GONE_MILLIS; waited += 10) await sleep(10);
  }
}

/** To all of the group that is left. False if nobody is. */
function signal(child: ChildProcess, name: NodeJS.Signals | 0): boolean {
  if (child.pid === undefined) return false;
  try {
    return process.kill(-child.pid, name);
  } catch {
    return false;
  }
}

/** Bytes that files under a folder take; what vanishes meanwhile counts nothing. */
export function bytesUnder(folder: string): number {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return 0;
  }
  return names.reduce((sum, name) => {
    const at = join(folder, name);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found === undefined) return sum;
    return sum + (found.isDirectory() ? bytesUnder(at) : found.size);
  }, 0);
}
