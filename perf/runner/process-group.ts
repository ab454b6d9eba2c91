/**
 * Runs a program in a process group of its own, within a time limit, and leaves none of the group's processes behind.
 *
 * The first interruption sends one signal to the group, which may end in good order; a second one kills the group. A
 * group is also killed when its time is over, and when its first process has ended and others have not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export interface GroupOptions {
  readonly timeoutSeconds: number;
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Asks the group to end. */
  readonly interrupt?: AbortSignal;
  /** Kills the group. */
  readonly kill?: AbortSignal;
  /** What the group prints, as it comes. */
  readonly output: (text: string, stream: 'stdout' | 'stderr') => void;
}

export interface Outcome {
  /** Exit code of the program; null if a signal ended it. */
  readonly code: number | null;
  /** Why the group was killed; undefined if it ended by itself. */
  readonly killed: string | undefined;
}

/** A group ends within microseconds of SIGKILL; a zombie may wait for its parent. */
const GONE_MILLIS = 2000;

/** @throws Error if the program cannot be started */
export async function runGroup(
  command: string,
  args: readonly string[],
  { timeoutSeconds, cwd, env, interrupt, kill, output }: GroupOptions,
): Promise<Outcome> {
  const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    // All output has come by then. Orphans of the program may hold its streams open: the time limit ends that.
    child.once('close', resolve);
  });
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].setEncoding('utf8').on('data', (text: string) => output(text, stream));
  }
  let killed: string | undefined;
  const end = (why: string): void => {
    killed ??= why;
    signal(child, 'SIGKILL');
  };
  const onInterrupt = (): void => void signal(child, 'SIGINT');
  const onKill = (): void => end('interrupted twice');
  interrupt?.addEventListener('abort', onInterrupt);
  kill?.addEventListener('abort', onKill);
  const late = (): void => end(`it had not ended after ${timeoutSeconds} s`);
  const timer = setTimeout(late, timeoutSeconds * 1000);
  try {
    return { code: await closed, killed };
  } finally {
    clearTimeout(timer);
    interrupt?.removeEventListener('abort', onInterrupt);
    kill?.removeEventListener('abort', onKill);
    signal(child, 'SIGKILL');
    for (let waited = 0; signal(child, 0) && waited < GONE_MILLIS; waited += 10) await sleep(10);
  }
}

/** To all processes of the group. False if there is none left. */
function signal(child: ChildProcess, name: NodeJS.Signals | 0): boolean {
  if (child.pid === undefined) return false;
  try {
    return process.kill(-child.pid, name);
  } catch {
    return false;
  }
}
