/**
 * Where the time goes, thread by thread: `npm run perf:profile -- --help`.
 *
 * The load runs twice, because one profiler would disturb the other. In the first run V8 writes a profile of each thread. In the
 * second, Linux perf samples all threads and the kernel, and this program draws one flame graph.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Arguments, CommandTable } from '../../src/cli/arguments.ts';
import { Failure, runProgram } from '../runner/command.ts';
import { describeMachine, inWords } from '../runner/results.ts';
import {
  type CpuProfile,
  inSources,
  summarize,
  type ThreadSummary,
  threadIdOf,
  threadNames,
} from './cpu-profile.ts';
import { flameGraph, KINDS, percent, sampleCount, shares } from './flame-graph.ts';
import {
  type Ended,
  endedIn,
  LOAD_OPTIONS,
  type Load,
  loadOf,
  loadProgram,
  perfFolder,
  Session,
  timestamp,
} from './load.ts';
import { Folder, type Kind, type Stack } from './perf-script.ts';
import { Sources } from './sources.ts';

const TABLE: CommandTable = {
  program: 'npm run',
  name: 'perf:profile --',
  summary: 'where the time goes in a port under load, thread by thread',
  positionals: [],
  options: {
    ...LOAD_OPTIONS,
    publish: { help: 'put the flame graph into perf/plots too' },
  },
  notes: [
    'The first run writes THREAD.cpuprofile for each thread; DevTools, VS Code and speedscope open these files. If Linux\n' +
      'perf is installed, the second run writes flame.svg, with all threads and, as root, the kernel and its softirq\n' +
      'threads, which may also do work of other processes.',
  ],
  examples: [['npm run perf:profile -- --network veth', 'a port over the VF of a lab, as root']],
  exits: [
    [0, 'success'],
    [1, 'something failed'],
    [2, 'the command line was wrong'],
    [130, 'interrupted'],
  ],
};

/** Samples a second: not a divisor of the kernel's tick, with which it would keep step. */
const HERTZ = 997;
/** From the start of the load's process: a lab is built, and V8 has compiled everything. */
const WARM_SECONDS = 4;
const SPARE_SECONDS = 60;
/** Functions of each thread. */
const SHOWN = 10;

/** Runs the load, with these options of node, and a profiler in front. @throws Failure */
async function runLoad(session: Session, load: Load, flag: readonly string[], profiler = ''): Promise<Ended> {
  const [command, ...args] = [
    ...profiler.split(' ').filter(Boolean),
    process.execPath,
    ...flag,
    ...loadProgram(load),
  ];
  const printed = await session.run(command!, args, { timeoutSeconds: load.seconds + SPARE_SECONDS });
  return endedIn(printed)!;
}

const sources = new Sources();

type Thread = ThreadSummary & { readonly file: string };

/** One profile for each thread, named after the thread, in `out`. */
async function profileThreads(
  session: Session,
  out: string,
): Promise<{ ended: Ended; threads: readonly Thread[] }> {
  const { load, scratch } = session;
  const ended = await runLoad(session, load, ['--cpu-prof', '--cpu-prof-dir', scratch]);
  const profiles = new Map<number, CpuProfile>();
  for (const name of readdirSync(scratch)) {
    const id = threadIdOf(name);
    if (id === undefined) continue;
    profiles.set(id, JSON.parse(readFileSync(join(scratch, name), 'utf8')));
  }
  if (profiles.size === 0) throw new Failure('V8 wrote no profile.');
  const threads = [...threadNames(profiles)].map(([id, name]) => {
    const file = join(out, `${name}.cpuprofile`);
    const profile = inSources(profiles.get(id)!, (place) => sources.of(place));
    writeFileSync(file, JSON.stringify(profile));
    const { functions, ...summary } = summarize(profile, name);
    return { ...summary, functions: functions.slice(0, SHOWN), file };
  });
  return { ended, threads };
}

/** Watches the load with Linux perf. */
async function sampleStacks(session: Session): Promise<{ ended: Ended; stacks: readonly Stack[] }> {
  const { seconds } = session.load;
  // The kernel's threads, and softirqs in the threads that they interrupt, are seen only when the whole machine is watched.
  const whom = process.getuid?.() === 0 ? '-a ' : '';
  const when = `${WARM_SECONDS * 1000}-${(WARM_SECONDS + seconds) * 1000}`;
  const record = `perf record -q -e cpu-clock -F ${HERTZ} -g ${whom}-D ${when} -o perf.data --`;
  const longer = { ...session.load, seconds: WARM_SECONDS + seconds };
  const ended = await runLoad(session, longer, ['--perf-basic-prof'], record);
  try {
    const stacks = new Folder(ended.pid, (place) => sources.of(place));
    const script = ['script', '-F', 'comm,pid,tid,ip,sym,dso', '--no-inline', '-i', 'perf.data'];
    const output = (text: string): void => stacks.push(text);
    await session.run('perf', script, { timeoutSeconds: 10 * SPARE_SECONDS, output });
    return { ended, stacks: stacks.end() };
  } finally {
    rmSync(`/tmp/perf-${ended.pid}.map`, { force: true }); // where V8 writes it, and perf reads it
  }
}

/** Functions of a thread, the longest first. */
function functionTable({ thread, functions }: ThreadSummary): string {
  const lines = functions.map(({ name, millis, share }) => {
    return `${percent(share, 1).padStart(7)}${millis.toFixed(0).padStart(8)}  ${name}`;
  });
  return `\n${thread}: self time in ms\n${lines.join('\n')}\n`;
}

/** Samples of each thread by what they are made of. */
function kindTable(stacks: readonly Stack[]): string {
  const total = sampleCount(stacks);
  const kinds = (Object.keys(KINDS) as Kind[]).filter((kind) => shares(stacks)[kind] > 0);
  const line = (name: string, cells: readonly string[]): string =>
    `${name.padEnd(16)}${cells.map((cell) => cell.padStart(13)).join('')}`;
  const row = (name: string, of: readonly Stack[]): string => {
    const found = shares(of);
    return line(name, [percent(sampleCount(of), total), ...kinds.map((kind) => percent(found[kind], total))]);
  };
  const threads = [...new Set(stacks.map(({ thread }) => thread))]
    .map((name) => ({ name, of: stacks.filter(({ thread }) => thread === name) }))
    .sort((a, b) => sampleCount(b.of) - sampleCount(a.of));
  const head = line('', ['samples', ...kinds.map((kind) => KINDS[kind].label)]);
  return `\n${[head, ...threads.map(({ name, of }) => row(name, of)), row('all', stacks)].join('\n')}\n`;
}

function titleOf({ network, wasm, queues }: Load): string {
  const where = network === 'veth' ? 'its VF (AF_XDP on veth)' : 'rings in memory';
  return `A port over ${where}, reflect${wasm ? ' in WebAssembly' : ''}, ${queues} queue${queues === 1 ? '' : 's'}`;
}

const rateOf = ({ packets, seconds }: Ended): string =>
  `${(packets / seconds / 1e6).toFixed(2)} million packets a second`;

async function run(args: Arguments): Promise<number> {
  const json = args.flags.has('json');
  const print = (text: string): void => void (json || process.stdout.write(text));
  const session = new Session(args, loadOf(args, false));
  const { load } = session;
  const out = join(session.out, `${load.network}-${timestamp()}`);
  mkdirSync(out, { recursive: true });
  try {
    const machine = inWords(describeMachine());
    const { ended, threads } = await profileThreads(session, out);
    print(`${machine}\n${titleOf(load)}: ${rateOf(ended)} while V8 recorded\n`);
    for (const thread of threads) print(functionTable(thread));
    let flame: { file: string; samples: number; shares: Readonly<Record<Kind, number>> } | undefined;
    if (spawnSync('perf', ['--version']).status !== 0) {
      process.stderr.write('Linux perf is not installed (perf/peers/install installs it): no flame graph.\n');
    } else {
      const { ended: watched, stacks } = await sampleStacks(session);
      const samples = sampleCount(stacks);
      if (samples === 0) throw new Failure('perf took no sample.');
      const versions = `Linux ${release().split('-')[0]}, Node ${process.versions.node}`;
      const watching = `${samples} samples of CPU time in ${load.seconds} s, all threads and the kernel`;
      const subtitle = `${watching}; ${rateOf(watched)}; ${versions}`;
      const file = join(out, 'flame.svg');
      writeFileSync(file, flameGraph({ title: titleOf(load), subtitle, stacks }));
      if (args.flags.has('publish')) copyFileSync(file, join(perfFolder, 'plots', 'flame.svg'));
      flame = { file, samples, shares: shares(stacks) };
      print(`\n${rateOf(watched)} while perf recorded\n${kindTable(stacks)}`);
    }
    const document = { machine, workload: load, load: ended, threads, flame };
    if (json) process.stdout.write(`${JSON.stringify(document)}\n`);
    return 0;
  } finally {
    session.close();
    // A run that failed half-way may have left good results.
    if (readdirSync(out).length === 0) rmdirSync(out);
    else print(`\n${out}\n`);
  }
}

await runProgram(TABLE, run);
