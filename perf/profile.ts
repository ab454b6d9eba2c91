/**
 * Where the time goes, thread by thread: `npm run perf:profile -- --help`.
 *
 * Two runs of the same load, since one way of looking would disturb the other. The first has V8 write a profile of each
 * thread; the second is watched by Linux perf, which sees the kernel too, and is drawn as one flame graph.
 */
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cleanUpStaleLabs } from '../src/lab/namespaces.ts';
import {
  type CpuProfile,
  summarize,
  type ThreadSummary,
  threadIdOf,
  threadNames,
} from './profiling/cpu-profile.ts';
import { flameGraph, KINDS, percent, shares } from './profiling/flame-graph.ts';
import { type Guard, type Outcome, runGuarded } from './profiling/guarded.ts';
import {
  type ProfileOptions,
  parseProfile,
  UsageError,
  type Workload,
  workloadArguments,
} from './profiling/options.ts';
import { Folder, type Kind, type Stack } from './profiling/perf-script.ts';
import { profilesFolder, stamp, workloadProgram } from './profiling/place.ts';
import { type Ended, messagesIn, type Started } from './profiling/said.ts';
import { describeMachine, inWords } from './results.ts';

const HELP = `Where the time goes in a port under load, thread by thread.

    npm run perf:profile -- [options] [-- options of the workload]

  --seconds N    how long each of the two runs is watched (default: 10)
  --network KIND memory: rings in memory (default). veth: the VF of a lab under UDP, as root
  --handler NAME reflect (default); over veth also echo
  --wasm         its WebAssembly twin
  --queues N     queues and workers (default: 1)
  --top N        functions that each table shows (default: 10)
  --full         draw each frame inside V8 and node, not one for all in a row
  --out DIR      where the profiles go (default: perf/results/profiles, which git ignores)
  --json         one JSON document on standard output

The first run leaves THREAD.cpuprofile for each thread: DevTools, VS Code and speedscope open them. Where Linux perf is
installed the second one leaves flame.svg, with all threads and, as root, the kernel and its softirq threads, which also
work for others; and flame.folded, the same stacks as text. Without perf it says so, and that is all.
Exit codes: 0, well; 1, something failed; 2, the command line was wrong; 130, interrupted.
`;

/** Samples a second: not a divisor of the kernel's tick, with which it would keep step. */
const HERTZ = 997;
/** V8 has compiled everything after this. */
const WARM_MILLIS = 1000;
const SPARE_SECONDS = 60;
const MOST_BYTES = 2e9;

class Failure extends Error {
  readonly code: number;

  constructor(message: string, code = 1) {
    super(message);
    this.code = code;
  }
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** The load under these options of node, with what it said. */
async function load(
  workload: Workload,
  flags: readonly string[],
  folder: string,
  started: (message: Started) => void = () => {},
): Promise<Ended> {
  let said = '';
  let told = false;
  const outcome = await runGuarded(
    process.execPath,
    [...flags, workloadProgram, ...workloadArguments(workload)],
    guard(folder, workload.seconds + SPARE_SECONDS, (text) => {
      said += text;
      const first = told ? undefined : messagesIn(said)[0];
      if (first?.kind !== 'started') return;
      told = true;
      started(first);
    }),
  );
  const ended = messagesIn(said).find((message) => message.kind === 'ended');
  judge(outcome, 'The load', said);
  return ended as Ended;
}

const guard = (folder: string, timeoutSeconds: number, output: Guard['output']): Guard => ({
  ...{ cwd: folder, env: process.env, folder, mostBytes: MOST_BYTES, timeoutSeconds, output },
});

function judge({ code, ended, interrupted }: Outcome, who: string, said: string): void {
  if (interrupted !== 0) throw new Failure('Interrupted.', interrupted);
  if (ended !== undefined) throw new Failure(`${who} was ended: ${ended}.`);
  if (code !== 0) throw new Failure(`${who} failed (${code ?? 'a signal'}).\n${said.trimEnd()}`);
}

/** One profile a thread, named by what the thread is, moved to `out`. */
async function profileThreads(
  workload: Workload,
  folder: string,
  out: string,
): Promise<{ ended: Ended; threads: readonly (ThreadSummary & { file: string })[] }> {
  const ended = await load(workload, ['--cpu-prof', '--cpu-prof-dir', folder], folder);
  const files = new Map(
    readdirSync(folder).flatMap((file) => {
      const id = threadIdOf(file);
      return id === undefined ? [] : [[id, file] as const];
    }),
  );
  if (files.size === 0) throw new Failure('V8 wrote no profile.');
  const profiles = new Map(
    [...files].map(([id, file]) => [id, JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile]),
  );
  const threads = [...threadNames(profiles)].map(([id, name]) => {
    const file = join(out, `${name}.cpuprofile`);
    renameSync(join(folder, files.get(id)!), file);
    return { ...summarize(profiles.get(id)!, name), file };
  });
  return { ended, threads };
}

/** Watches the load with Linux perf. */
async function sample(
  workload: Workload,
  full: boolean,
  folder: string,
): Promise<{ ended: Ended; stacks: readonly Stack[] }> {
  const data = join(folder, 'perf.data');
  const longer = { ...workload, seconds: workload.seconds + (2 * WARM_MILLIS) / 1000 };
  let pid = 0;
  let recording: Promise<void> | undefined;
  const record = async (): Promise<void> => {
    await sleep(WARM_MILLIS);
    let said = '';
    // The kernel's threads are seen, and softirqs counted to whom they interrupt, only by watching the whole machine.
    const whom = process.getuid?.() === 0 ? ['-a'] : ['-p', String(pid)];
    const what = ['-q', '-e', 'cpu-clock', '-F', String(HERTZ), '-g', ...whom, '-o', data];
    const outcome = await runGuarded(
      'perf',
      ['record', ...what, '--', 'sleep', String(workload.seconds)],
      guard(folder, workload.seconds + SPARE_SECONDS, (text) => {
        said += text;
      }),
    );
    judge(outcome, 'perf record', said);
  };
  try {
    const ended = await load(longer, ['--perf-basic-prof'], folder, (message) => {
      pid = message.pid;
      recording = record();
      recording.catch(() => {}); // it is awaited below, when the load has ended
    });
    await recording;
    const stacks = new Folder({ pid, full });
    const fields = ['-F', 'comm,pid,tid,ip,sym,dso', '--no-inline', '-i', data];
    let said = '';
    const outcome = await runGuarded(
      'perf',
      ['script', ...fields],
      guard(folder, 10 * SPARE_SECONDS, (text, stream) => {
        if (stream === 'stdout') stacks.push(text);
        else said += text;
      }),
    );
    judge(outcome, 'perf script', said);
    return { ended, stacks: stacks.end() };
  } finally {
    if (pid !== 0) rmSync(`/tmp/perf-${pid}.map`, { force: true }); // where V8 writes it, and perf looks for it
  }
}

function table({ thread, functions }: ThreadSummary, top: number): string {
  const lines = functions
    .slice(0, top)
    .map(
      ({ name, millis, share }) =>
        `${percent(share, 1).padStart(7)}${millis.toFixed(0).padStart(8)}  ${name}`,
    );
  return `\n${thread}: self time in ms\n${lines.join('\n')}\n`;
}

/** Samples of each thread by what they are made of. */
function kindTable(stacks: readonly Stack[]): string {
  const total = sumOf(stacks);
  const kinds = (Object.keys(KINDS) as Kind[]).filter((kind) => shares(stacks)[kind] > 0);
  const row = (name: string, of: readonly Stack[]): string => {
    const found = shares(of);
    const cells = [sumOf(of), ...kinds.map((kind) => found[kind])].map((count) =>
      percent(count, total).padStart(13),
    );
    return `${name.padEnd(16)}${cells.join('')}`;
  };
  const head = ['samples', ...kinds.map((kind) => KINDS[kind].label)].map((label) => label.padStart(13));
  const threads = [...new Set(stacks.map(({ thread }) => thread))]
    .map((name) => [name, stacks.filter(({ thread }) => thread === name)] as const)
    .sort(([, a], [, b]) => sumOf(b) - sumOf(a));
  const rows = [...threads.map(([name, of]) => row(name, of)), row('all', stacks)];
  return `\n${''.padEnd(16)}${head.join('')}\n${rows.join('\n')}\n`;
}

const sumOf = (stacks: readonly Stack[]): number => stacks.reduce((sum, { count }) => sum + count, 0);

const folded = (stacks: readonly Stack[]): string =>
  stacks
    .map(
      ({ thread, frames, count }) =>
        `${[thread, ...frames.map(({ name }) => name.replaceAll(';', ','))].join(';')} ${count}\n`,
    )
    .join('');

function titled({ network, handler, wasm, queues }: Workload): string {
  const what = `${handler}${wasm ? ' in WebAssembly' : ''}, ${queues} queue${queues === 1 ? '' : 's'}`;
  return network === 'veth'
    ? `A port over its VF (AF_XDP on veth), ${what}`
    : `A port over rings in memory, ${what}`;
}

const rate = ({ packets, seconds }: Ended): string =>
  `${(packets / seconds / 1e6).toFixed(2)} million packets a second`;

async function run({ workload, json, out, top, full }: ProfileOptions): Promise<void> {
  const parent = profilesFolder(out);
  const folder = mkdtempSync(join(parent, '.profile-'));
  const results = join(parent, `${workload.network}-${stamp(new Date())}`);
  mkdirSync(results, { recursive: true });
  const print = (text: string): void => void (json || process.stdout.write(text));
  try {
    const { ended, threads } = await profileThreads(workload, folder, results);
    print(`${inWords(describeMachine())}\n${titled(workload)}: ${rate(ended)} while V8 looked on\n`);
    for (const thread of threads) print(table(thread, top));
    const perf = spawnSync('perf', ['--version'], { encoding: 'utf8' });
    let flame: { file: string; samples: number; shares: Readonly<Record<Kind, number>> } | undefined;
    if (perf.status !== 0) {
      say('Linux perf is not installed (perf/peers/install installs it): no flame graph.');
    } else {
      const { ended: watched, stacks } = await sample(workload, full, folder);
      if (stacks.length === 0) throw new Failure('perf took no sample.');
      const file = join(results, 'flame.svg');
      const versions = `Linux ${release().split('-')[0]}, Node ${process.versions.node}`;
      const subtitle = `${sumOf(stacks)} samples of CPU time in ${workload.seconds} s, all threads and the kernel; ${rate(watched)}; ${versions}`;
      writeFileSync(file, flameGraph({ title: titled(workload), subtitle, stacks }));
      writeFileSync(join(results, 'flame.folded'), folded(stacks));
      flame = { file, samples: sumOf(stacks), shares: shares(stacks) };
      print(`\n${rate(watched)} while perf looked on\n${kindTable(stacks)}`);
    }
    if (json) {
      const shown = threads.map((thread) => ({ ...thread, functions: thread.functions.slice(0, top) }));
      process.stdout.write(
        `${JSON.stringify({ machine: inWords(describeMachine()), workload, load: ended, threads: shown, flame })}\n`,
      );
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
    // Also of a run that failed half-way: what is there is good.
    if (readdirSync(results).length === 0) rmdirSync(results);
    else print(`\n${results}\n`);
    if (workload.network === 'veth') cleanUpStaleLabs(); // of a load that was ended by force
  }
}

try {
  const options = parseProfile(process.argv.slice(2));
  if (options === 'help') process.stdout.write(HELP);
  else await run(options);
} catch (error) {
  if (!(error instanceof UsageError || error instanceof Failure)) throw error;
  say(error.message);
  process.exitCode = error instanceof UsageError ? 2 : error.code;
}
