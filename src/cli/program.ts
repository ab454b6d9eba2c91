/**
 * The command line's program: finds the command, runs it, and turns an error into one sentence and an exit code.
 *
 * The sentence goes to standard error. With `--json`, `{ "error": { code, message, … } }` goes to standard output, which
 * so always gets one JSON document.
 */
import { TwinpathError } from '../errors.ts';
import { packageVersion } from '../package-version.ts';
import { parse, unknownCommand } from './arguments.ts';
import { capture } from './capture/capture.ts';
import { extcap } from './capture/extcap.ts';
import { type Command, EXIT } from './command.ts';
import { demo } from './demo/demo.ts';
import { doctor } from './doctor.ts';
import { commandHelp, generalHelp } from './help.ts';
import { Interruption } from './interruption.ts';
import { list } from './list.ts';
import { ps } from './ps.ts';
import { run } from './run.ts';
import { set } from './set.ts';
import { stats } from './stats.ts';
import { stop } from './stop.ts';
import { STANDARD_OUTPUT, Terminal } from './terminal.ts';
import { top } from './top.ts';
import { tryHandler } from './try.ts';

const COMMANDS = [demo, list, doctor, run, tryHandler, ps, stats, top, capture, set, stop, extcap];
const USAGE_CODES = new Set(['ERR_COMMAND_UNKNOWN', 'ERR_OPTION_UNKNOWN', 'ERR_OPTION_INVALID']);

/** Resolves with the exit code. Rejects with errors that are not TwinpathErrors. */
export async function runProgram(args: string[]): Promise<number> {
  const terminal = new Terminal();
  const json = args.includes('--json');
  if (json) terminal.reserveStdout();
  try {
    return await main(args, terminal);
  } catch (error) {
    return explain(error, json, terminal);
  }
}

async function main([name, ...rest]: string[], terminal: Terminal): Promise<number> {
  const tables = COMMANDS.map(({ table }) => table);
  if (name === '--version') {
    await terminal.print(packageVersion());
    return EXIT.OK;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    const [topic] = rest.filter((word) => !word.startsWith('-'));
    const explained = topic === undefined ? undefined : known(topic).table;
    await terminal.print(explained === undefined ? generalHelp(tables) : commandHelp(explained));
    return EXIT.OK;
  }
  if (name === undefined) {
    terminal.log(...generalHelp(tables).trimEnd().split('\n'));
    return EXIT.USAGE;
  }
  const command = known(name);
  const args = parse(command.table, rest);
  if (args.flags.has('help')) {
    await terminal.print(commandHelp(command.table));
    return EXIT.OK;
  }
  return command.run(args, { terminal, interruption: new Interruption() });
}

/** @throws ERR_COMMAND_UNKNOWN */
function known(name: string): Command {
  const command = COMMANDS.find(({ table }) => table.name === name);
  if (command !== undefined) return command;
  const names = COMMANDS.map(({ table }) => table.name);
  throw unknownCommand(name, name.startsWith('-') ? ['--help', '--version', ...names] : names);
}

async function explain(error: unknown, json: boolean, terminal: Terminal): Promise<number> {
  if (!(error instanceof TwinpathError)) throw error;
  terminal.log(`twinpath: ${error.message}`);
  const isStdout = error.code === 'ERR_OUTPUT' && error.device === STANDARD_OUTPUT;
  if (json && !isStdout) {
    await terminal.printJson({ error: { ...error.toJSON(), message: error.message } }).catch(() => {});
  }
  return USAGE_CODES.has(error.code) ? EXIT.USAGE : EXIT.FAILED;
}
