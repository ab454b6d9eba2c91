/**
 * `npm run perf`: measures the benchmarks of runner/benchmarks.ts, prints the results and keeps every sample.
 *
 * Read on in runner/benchmark.ts (what a benchmark is), sampling.ts (how runs take turns) and verdict.ts (their result).
 */
import { type Arguments, type CommandTable, text, whole } from '../src/cli/arguments.ts';
import { EXIT } from '../src/cli/command.ts';
import { Interruption } from '../src/cli/interruption.ts';
import { Terminal } from '../src/cli/terminal.ts';
import { TwinpathError } from '../src/errors.ts';
import { cleanUpStaleLabs } from '../src/lab/namespaces.ts';
import { invalid, oneOf } from '../src/validation.ts';
import { hugePages, setHugePages } from './peers/testpmd.ts';
import type { Benchmark } from './runner/benchmark.ts';
import { BENCHMARKS } from './runner/benchmarks.ts';
import { runProgram } from './runner/command.ts';
import { publish } from './runner/pages.ts';
import { type Shown, textTable } from './runner/report.ts';
import {
  describeMachine,
  inWords,
  lockMachine,
  type Results,
  readResults,
  writeResults,
} from './runner/results.ts';
import { sample } from './runner/sampling.ts';
import { judge, type Run } from './runner/verdict.ts';

const SECONDS_OF_A_WEEK = 604_800;

const TABLE: CommandTable = {
  program: 'npm run',
  name: 'perf --',
  summary: 'measures Twinpath and its peers, and reports which goals it meets',
  positionals: [],
  options: {
    quick: { help: 'under three minutes: fewer and shorter runs' },
    only: {
      value: 'NAME',
      help: 'this benchmark alone',
      otherwise: 'all but soak, tcp-failover and vf-return',
      repeatable: true,
    },
    seconds: {
      value: 'N',
      help: 'with --only: how long a run measures',
      otherwise: 'the benchmark’s own time',
    },
    again: { value: 'FILE', help: 'measure nothing; judge the samples of a file from perf/results/ again' },
    publish: {
      help: 'write this kind of processor’s file in perf/published, and of all kinds the tables and plots',
    },
  },
  notes: [
    'Variants take turns, A B A B, each run in its own process. The ratio is the median of the ratios of\n' +
      'neighbouring runs, the spread the width of their middle half. A failed run, or one during which the\n' +
      'hypervisor gave the CPUs to other guests, gives no number. perf/peers/install installs the peers.',
  ],
  examples: [
    ['npm run perf', 'every benchmark, under fifteen minutes'],
    ['npm run perf -- --only ring --only veth', 'two benchmarks'],
    ['npm run perf -- --quick --json', 'a first look, as JSON'],
    ['npm run perf -- --again perf/results/FILE', 'the results of an earlier run'],
    ['npm run perf -- --only latency --publish', 'one benchmark, published beside the others'],
    ['npm run perf -- --only soak --seconds 7200', 'two hours under load'],
  ],
  exits: [
    [0, 'every benchmark has a result, whether it meets its goal or not'],
    [1, 'a benchmark failed or was noisy'],
    [2, 'the command line is wrong'],
    [130, 'interrupted'],
  ],
};

/** @throws ERR_OPTION_INVALID of a name that no benchmark has */
function chosen(names: readonly string[], seconds: number | undefined): readonly Benchmark[] {
  const known = BENCHMARKS.map(({ name }) => name);
  for (const name of names) oneOf('--only', name, known);
  const benchmarks = BENCHMARKS.filter(({ name, onRequest }) =>
    names.length === 0 ? !onRequest : names.includes(name),
  );
  if (seconds === undefined) return benchmarks;
  if (names.length === 0) invalid('--seconds', 'it needs --only', 'Name one: --only soak --seconds 7200.');
  return benchmarks.map((benchmark) => ({
    ...benchmark,
    full: { ...benchmark.full, seconds },
    quick: { ...benchmark.quick, seconds },
  }));
}

async function main(args: Arguments, terminal: Terminal): Promise<number> {
  const names = args.texts.get('only') ?? [];
  const benchmarks = chosen(names, whole(args, 'seconds', 1, SECONDS_OF_A_WEEK));
  const file = text(args, 'again');
  if (args.flags.has('publish') && args.flags.has('quick'))
    invalid('--publish', 'a quick run is only a first look', 'Leave one of --quick and --publish out.');
  if (file !== undefined) return print(judgeAgain(readResults(file), names), args, terminal);
  if (process.getuid?.() !== 0) {
    throw new TwinpathError('ERR_PERMISSION', {
      device: 'npm run perf',
      hint: 'It builds network namespaces and drives kernel rings: run it as root.',
    });
  }
  const lock = await lockMachine();
  const pages = hugePages();
  try {
    cleanUpStaleLabs();
    return await measure(benchmarks, args, terminal, new Interruption());
  } finally {
    cleanUpStaleLabs(); // of a variant that had to be killed
    setHugePages(pages);
    lock.close();
  }
}

async function measure(
  benchmarks: readonly Benchmark[],
  args: Arguments,
  terminal: Terminal,
  interruption: Interruption,
): Promise<number> {
  const { signal } = interruption;
  const quick = args.flags.has('quick');
  const machine = describeMachine();
  terminal.log(inWords(machine));
  const began = new Date();
  const shown: Shown[] = [];
  const runs: Record<string, Run[]> = {};
  const onRun = (variant: string, turn: number, turns: number): void =>
    terminal.panel([`  run ${turn + 1} of ${turns}: ${variant}`]);
  const onProgress = (line: string): void => terminal.log(`  ${line}`);
  for (const benchmark of benchmarks) {
    terminal.log('', `${benchmark.name}: ${benchmark.about}`);
    const result = await sample(benchmark, { quick, signal, onRun, onProgress });
    terminal.panel([]);
    if (signal.aborted) return interruption.exitCode;
    runs[benchmark.name] = result.runs;
    shown.push({ benchmark, lines: result.lines });
    terminal.log(...textTable(shown.slice(-1)).split('\n'));
  }
  const seconds = Math.round((Date.now() - began.getTime()) / 1000);
  const lines = shown.flatMap((one) => one.lines);
  const results = { began: began.toISOString(), seconds, quick, machine, rows: lines, runs };
  const code = await print({ shown, results }, args, terminal);
  const path = writeResults(results); // after the printing: a full disk must not cost what was measured
  terminal.log('', `${seconds} s. Every sample: ${path}`);
  return code;
}

interface Printed {
  readonly shown: readonly Shown[];
  readonly results: Results;
}

/** The results of an earlier measurement's samples. */
function judgeAgain(results: Results, names: readonly string[]): Printed {
  const benchmarks = BENCHMARKS.filter(
    ({ name }) => name in results.runs && (names.length === 0 || names.includes(name)),
  );
  const shown = benchmarks.map((benchmark) => {
    const lines = benchmark.comparisons.map((comparison) => judge(comparison, results.runs[benchmark.name]!));
    return { benchmark, lines };
  });
  const runs = Object.fromEntries(benchmarks.map(({ name }) => [name, results.runs[name]!]));
  return { shown, results: { ...results, rows: shown.flatMap(({ lines }) => lines), runs } };
}

/** Prints the results, and publishes them if that was asked for. Returns the exit code. */
async function print({ shown, results }: Printed, args: Arguments, terminal: Terminal): Promise<number> {
  const { rows } = results;
  if (args.flags.has('json')) await terminal.printJson({ rows });
  else await terminal.print(textTable(shown));
  if (args.flags.has('publish')) {
    for (const file of publish(results, BENCHMARKS)) terminal.log(`wrote ${file}`);
  }
  return rows.some(({ note }) => note !== undefined) ? EXIT.FAILED : EXIT.OK;
}

await runProgram(TABLE, (args) => main(args, new Terminal()));
