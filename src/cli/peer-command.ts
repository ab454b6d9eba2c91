/** Runs a command or a shell in the network namespace of a lab's peer. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { isAbsolute } from 'node:path';
import { TwinpathError } from '../errors.ts';
import { endProcesses } from '../lab/cleanup.ts';
import type { Lab } from '../lab/host.ts';
import type { Interruption } from './interruption.ts';
import { isExecutable } from './try-hints.ts';

/** What runs in the peer's namespace. */
export interface PeerCommand {
  readonly words: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  /** The signal that asks it to end. An interactive shell ignores SIGTERM, and saves its history on SIGHUP. */
  readonly hangUp: NodeJS.Signals | undefined;
}

const FALLBACK_SHELL = '/bin/sh';
const PROMPT = '(twinpath peer) ';

/** A command line for sh. */
export function commandLine(line: string, environment: NodeJS.ProcessEnv): PeerCommand {
  return { words: ['sh', '-c', line], environment, hangUp: undefined };
}

/**
 * The shell that SHELL names by an absolute path, or else /bin/sh. With a terminal the prompt says where the shell runs:
 * bash and fish print that before the user's own prompt; other shells take PS1, unless an rc file sets it.
 */
export function userShell(environment: NodeJS.ProcessEnv, hasTerminal: boolean): PeerCommand {
  const { SHELL = '' } = environment;
  const shell = isAbsolute(SHELL) && isExecutable(SHELL) ? SHELL : FALLBACK_SHELL;
  if (!hasTerminal) return { words: [shell], environment, hangUp: 'SIGHUP' };
  const prompts: Readonly<Record<string, () => Pick<PeerCommand, 'words' | 'environment'>>> = {
    bash: () => ({
      words: [shell],
      // bash runs it before its first prompt, after its rc files.
      environment: { ...environment, PROMPT_COMMAND: `PS1="${PROMPT}$PS1"; unset PROMPT_COMMAND` },
    }),
    fish: () => ({
      words: [
        shell,
        '--init-command',
        `functions --copy fish_prompt twinpath_prompt; function fish_prompt; echo -n "${PROMPT}"; twinpath_prompt; end`,
      ],
      environment,
    }),
  };
  const name = shell.slice(shell.lastIndexOf('/') + 1);
  const prompt = prompts[name]?.() ?? {
    words: [shell],
    environment: { ...environment, PS1: `${PROMPT}# ` },
  };
  return { ...prompt, hangUp: 'SIGHUP' };
}

/**
 * Runs a command until it ends or is interrupted, with this process's standard input and error. Then ends every process
 * that is left in the lab.
 *
 * @param output the descriptor of its standard output
 * @returns its exit code; if a signal ended it, 128 and the signal's number, as in shells
 * @throws ERR_LAB if it cannot be started
 */
export async function runInPeer(
  lab: Lab,
  { words, environment, hangUp }: PeerCommand,
  output: number,
  interruption: Interruption,
): Promise<number> {
  const child = spawn('ip', ['netns', 'exec', lab.outside, ...words], {
    stdio: ['inherit', output, 'inherit'],
    env: environment,
  });
  const exit = new Promise<number>((resolve, reject) => {
    child.once('error', ({ message }) => reject(new TwinpathError('ERR_LAB', { detail: message })));
    child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
  await Promise.race([exit, aborted(interruption.signal)]);
  await endProcesses(lab.namespaces, (interruption.received && hangUp) ?? interruption.received ?? 'SIGTERM');
  child.kill('SIGKILL'); // it may not have entered the namespace yet
  return exit;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
