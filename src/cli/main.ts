#!/usr/bin/env node
/**
 * `twinpath`: finds the command, runs it, and turns what went wrong into one sentence and an exit code.
 *
 * An error is a sentence on standard error; with `--json` also `{ "error": { code, message, … } }` on
 * standard output, so that a program that reads it always gets one JSON document.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TwinpathError } from '../errors.ts';
import { packageRoot } from '../kernel/shim.ts';
import { parse, unknownCommand } from './arguments.ts';
import { EXIT } from './command.ts';
import { demo } from './demo.ts';
import { commandHelp, generalHelp } from './help.ts';
import { Interruption } from './interruption.ts';
import { list } from './list.ts';
import { run } from './run.ts';
import { Terminal } from './terminal.ts';

const COMMANDS = [demo, list, run];
const USAGE_CODES = new Set(['ERR_COMMAND_UNKNOWN', 'ERR_OPTION_UNKNOWN', 'ERR_OPTION_INVALID']);

async function main([name, ...rest]: string[], terminal: Terminal): Promise<number> {
  const tables = COMMANDS.map(({ table }) => table);
  if (name === '--version') {
    const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
    await terminal.print(version);
    return EXIT.WELL;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    await terminal.print(generalHelp(tables));
    return EXIT.WELL;
  }
  if (name === undefined) {
    terminal.say(generalHelp(tables).trimEnd());
    return EXIT.USAGE;
  }
  const command = COMMANDS.find(({ table }) => table.name === name);
  if (command === undefined) {
    const known = tables.map((table) => table.name);
    throw unknownCommand(name, name.startsWith('-') ? ['--help', '--version', ...known] : known);
  }
  const args = parse(command.table, rest);
  if (args.flags.has('help')) {
    await terminal.print(commandHelp(command.table));
    return EXIT.WELL;
  }
  return command.run(args, { terminal, interruption: new Interruption() });
}

async function explain(error: unknown, json: boolean, terminal: Terminal): Promise<number> {
  if (!(error instanceof TwinpathError)) throw error;
  terminal.say(`twinpath: ${error.message}`);
  if (json && error.code !== 'ERR_OUTPUT') {
    const plain = { error: { ...error.toJSON(), message: error.message } };
    await terminal.print(JSON.stringify(plain)).catch(() => {});
  }
  return USAGE_CODES.has(error.code) ? EXIT.USAGE : EXIT.NOT_WELL;
}

const args = process.argv.slice(2);
const terminal = new Terminal();
if (args.includes('--json')) terminal.keepOutput();
try {
  process.exitCode = await main(args, terminal);
} catch (error) {
  process.exitCode = await explain(error, args.includes('--json'), terminal);
}
