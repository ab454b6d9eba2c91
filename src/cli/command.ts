/** What a command is, and the exit codes of all commands. */
import type { Arguments, CommandTable } from './arguments.ts';
import type { Interruption } from './interruption.ts';
import type { Terminal } from './terminal.ts';

export interface CommandContext {
  readonly terminal: Terminal;
  readonly interruption: Interruption;
}

export interface Command {
  readonly table: CommandTable;
  /** Resolves with the exit code. @throws TwinpathError for errors that the user can correct */
  run(args: Arguments, context: CommandContext): Promise<number>;
}

/** Exit codes with the same meaning in every command. */
export const EXIT = { OK: 0, FAILED: 1, USAGE: 2 } as const;

export const EXITS = [
  [EXIT.USAGE, 'the command line was wrong'],
  [130, 'interrupted, 143 by SIGTERM'],
] as const;
