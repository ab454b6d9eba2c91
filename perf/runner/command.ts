/** The command-line programs of this folder: from their arguments to their exit code. */
import { type Arguments, type CommandTable, parse } from '../../src/cli/arguments.ts';
import { EXIT } from '../../src/cli/command.ts';
import { commandHelp } from '../../src/cli/help.ts';
import { TwinpathError } from '../../src/errors.ts';

/** Ends a program with a message, which shows what another program printed, and an exit code. */
export class Failure extends Error {
  readonly code: number;

  constructor(message: string, printed = '', code: number = EXIT.FAILED) {
    super(printed === '' ? message : `${message}\nWhat was printed:\n${printed.trimEnd()}`);
    this.code = code;
  }
}

/** Parses the arguments, prints help and errors, and sets the exit code. */
export async function runProgram(
  table: CommandTable,
  main: (args: Arguments) => Promise<number>,
): Promise<void> {
  try {
    const args = parse(table, process.argv.slice(2));
    if (args.flags.has('help')) process.stdout.write(commandHelp(table));
    else process.exitCode = await main(args);
  } catch (error) {
    if (!(error instanceof TwinpathError || error instanceof Failure)) throw error;
    process.stderr.write(`${error.message}\n`);
    const wrong = error instanceof TwinpathError && error.code.startsWith('ERR_OPTION');
    process.exitCode = error instanceof Failure ? error.code : wrong ? EXIT.USAGE : EXIT.FAILED;
  }
}
