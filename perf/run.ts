/**
 * `npm run perf`: measures the rows of rows.ts, prints what they say, and writes every sample down.
 *
 * Read on in row.ts (what a row is), sampling.ts (how runs take turns), verdict.ts (what they come to).
 */
import { type Arguments, parse, whole } from '../src/cli/arguments.ts';
import { EXIT } from '../src/cli/command.ts';
import { commandHelp } from '../src/cli/help.ts';
import { Interruption } from '../src/cli/interruption.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { TwinpathError } from '../src/errors.ts';
import { cleanUpStaleLabs } from '../src/lab/namespaces.ts';
import { nearest } from '../src/options.ts';
import { table } from './arguments.ts';
import { holdMachine } from './machine-lock.ts';
import { HugePages } from './peers/huge-pages.ts';
import { publish } from './publish.ts';
import { type Shown, textTable } from './report.ts';
import { describeMachine, inWords, type Results, readResults, writeResults } from './results.ts';
import type { Row } from './row.ts';
import { loadRow, ROWS } from './rows.ts';
import { sample } from './sampling.ts';
import { judge, type Run } from './verdict.ts';

/** A week. */
const LONGEST_SECONDS = 604_800;

async function chosen(only: readonly string[]): Promise<Row[]> {
  const known: readonly string[] = ROWS;
  for (const name of only) {
    if (known.includes(name)) continue;
    const near = nearest(name, known);
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: '--only',
      detail: `there is no row ${name}`,
      hint: near === undefined ? `The rows are: ${known.join(', ')}.` : `Did you mean ${near}?`,
    });
  }
  const rows = await Promise.all(known.map(loadRow));
  return rows.filter(({ name, onRequest }) => (only.length === 0 ? !onRequest : only.includes(name)));
}

/** The row with runs of another length. */
const lasting = (row: Row, seconds: number | undefined): Row =>
  seconds === undefined ? row : { ...row, full: { ...row.full, seconds }, quick: { ...row.quick, seconds } };

async function main(args: Arguments, terminal: Terminal): Promise<number> {
  const only = args.texts.get('only') ?? [];
  const seconds = whole(args, 'seconds', 1, LONGEST_SECONDS);
  if (seconds !== undefined && only.length === 0) {
    throw new TwinpathError('ERR_OPTION_INVALID', {
      device: '--seconds',
      detail: 'it is for rows that are named',
      hint: 'Name one, for instance: --only soak --seconds 7200.',
    });
  }
  const [again] = args.texts.get('again') ?? [];
  if (again !== undefined) return tell(await judgedAgain(readResults(again), only), args, terminal);
  const rows = (await chosen(only)).map((row) => lasting(row, seconds));
  if (process.getuid?.() !== 0) {
    throw new TwinpathError('ERR_PERMISSION', {
      device: 'npm run perf',
      hint: 'It builds network namespaces and drives kernel rings: run it as root.',
    });
  }
  const machineLock = await holdMachine();
  const pages = new HugePages();
  try {
    return await measure(rows, args, terminal, new Interruption());
  } finally {
    cleanUpStaleLabs(); // of a side that had to be stopped
    pages.restore();
    machineLock.close();
  }
}

async function measure(
  rows: readonly Row[],
  args: Arguments,
  terminal: Terminal,
  interruption: Interruption,
): Promise<number> {
  const { signal } = interruption;
  cleanUpStaleLabs();
  const quick = args.flags.has('quick');
  const machine = describeMachine();
  terminal.say(inWords(machine));
  const began = new Date();
  const shown: Shown[] = [];
  const runs: Record<string, Run[]> = {};
  for (const row of rows) {
    terminal.say('', `${row.name}: ${row.about}`);
    const progress = (side: string, turn: number, turns: number): void =>
      terminal.panel([`  run ${turn + 1} of ${turns}: ${side}`]);
    const heard = (text: string): void => terminal.say(`  ${text}`);
    const result = await sample(row, { quick, signal, progress, heard });
    terminal.panel([]);
    if (signal.aborted) return interruption.exitCode;
    runs[row.name] = result.runs;
    shown.push({ row, lines: result.lines });
    terminal.say(...textTable(shown.slice(-1)).split('\n'));
  }
  const lines = shown.flatMap((one) => one.lines);
  const seconds = Math.round((Date.now() - began.getTime()) / 1000);
  const results = { began: began.toISOString(), seconds, quick, machine, rows: lines, runs };
  const code = await tell({ shown, results }, args, terminal);
  const path = writeResults(results); // last: a full disk must not cost what was measured
  terminal.say('', `${seconds} s. Every sample: ${path}`);
  return code;
}

interface Told {
  readonly shown: readonly Shown[];
  readonly results: Results;
}

/** What the samples of an earlier run come to. */
async function judgedAgain(results: Results, only: readonly string[]): Promise<Told> {
  const rows = (await chosen(only.length > 0 ? only : ROWS)).filter(({ name }) => name in results.runs);
  const shown = rows.map((row) => ({
    row,
    lines: row.comparisons.map((comparison) => judge(comparison, results.runs[row.name]!)),
  }));
  return { shown, results: { ...results, rows: shown.flatMap(({ lines }) => lines) } };
}

/** Prints the results, and publishes them if that was asked for. */
async function tell({ shown, results }: Told, args: Arguments, terminal: Terminal): Promise<number> {
  const rows = shown.flatMap(({ lines }) => lines);
  if (args.flags.has('json')) await terminal.printJson({ rows });
  else await terminal.print(textTable(shown));
  if (args.flags.has('publish')) {
    for (const file of publish(shown, results)) terminal.say(`wrote ${file}`);
  }
  return rows.some(({ note }) => note !== undefined) ? EXIT.NOT_WELL : EXIT.WELL;
}

const terminal = new Terminal();
try {
  const args = parse(table, process.argv.slice(2));
  if (args.flags.has('help')) await terminal.print(commandHelp(table, 'npm run perf --'));
  else process.exitCode = await main(args, terminal);
} catch (error) {
  if (!(error instanceof TwinpathError)) throw error;
  terminal.say(`perf: ${error.message}`);
  process.exitCode = error.code.startsWith('ERR_OPTION') ? EXIT.USAGE : EXIT.NOT_WELL;
}
