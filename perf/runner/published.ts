/**
 * What is published: one file in perf/published/ for each kind of processor, with the newest runs of each benchmark on it.
 *
 * Publishing writes the file of this machine's kind, benchmark by benchmark, and leaves the other kinds' as they are. Every file is
 * judged again by the goals of today. A goal is judged by the kind that is worse.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.ts';
import type { Benchmark, Comparison } from './benchmark.ts';
import { type Results, readResults } from './results.ts';
import { judge, type Line, type Run, timesGoal } from './verdict.ts';

const FOLDER = 'perf/published';
/** What the measured code is made of. */
const SOURCES = ['src', 'native', 'wasm', 'workers'];

/** When runs were made, and of which code. */
export interface Measured {
  /** ISO 8601. */
  readonly began: string;
  /** As `git describe` gave it then. */
  readonly commit: string;
}

/** A file of perf/published/. `began` and `machine` are those of the newest measurement in it. */
export interface Published extends Results {
  /** By the names of the benchmarks. Those that are absent are of `began` and `machine.commit`. */
  readonly measured?: Readonly<Record<string, Measured>>;
}

/** A kind of processor, and what was measured on it. */
export interface Kind {
  /** For readers: `AMD EPYC`. */
  readonly name: string;
  readonly published: Published;
  /** By the names of the comparisons. Those that were never measured are absent. */
  readonly lines: ReadonlyMap<string, Line>;
  /** Names of the benchmarks whose runs are older than the newest change of the code. */
  readonly older: ReadonlySet<string>;
}

/** Name of a kind of processor: its model without what tells two machines of one kind apart. `cpus` as in {@link Results}. */
export function kindName(cpus: string): string {
  const model = cpus
    .replace(/^\d+ × /, '')
    .replace(/\((?:R|TM)\)/gi, ' ')
    .replace(/@.*$/, ' ')
    .replace(/\b(?:CPU|Processor|\d+-Core)\b/gi, ' ');
  return model.replace(/\s+/g, ' ').trim() || 'unknown';
}

/** The file of a kind, from the package's root: `perf/published/amd-epyc.json`. */
export const fileOf = (name: string): string =>
  `${FOLDER}/${name.toLowerCase().replace(/[^a-z0-9]+/g, '-')}.json`;

/** When and of which code the runs of a benchmark are. */
export const measuredAt = ({ measured, began, machine }: Published, benchmark: string): Measured =>
  measured?.[benchmark] ?? { began, commit: machine.commit };

/**
 * What was published and what was measured now, as one: a benchmark that was measured now has its new runs and no older ones,
 * unless none of its runs has a result.
 */
export function merged(before: Published | undefined, now: Results): Published {
  const fresh = Object.entries(now.runs).filter(
    ([name, runs]) => before?.runs[name] === undefined || runs.some(({ sample }) => sample !== undefined),
  );
  const runs = { ...before?.runs, ...Object.fromEntries(fresh) };
  const since = new Map<string, Measured>();
  for (const name of Object.keys(before?.runs ?? {})) since.set(name, measuredAt(before!, name));
  for (const [name] of fresh) since.set(name, measuredAt(now, name));
  // An older file that is judged again is not the newest measurement.
  const newest = before !== undefined && before.began > now.began ? before : now;
  return { ...newest, runs, measured: Object.fromEntries(since) };
}

export interface PublishedOptions {
  /** The package's root; tests have their own. */
  readonly root?: string;
  /** Whether the code has changed since a commit; tests have their own. */
  readonly changedSince?: (commit: string) => boolean;
}

/** The published kinds, sorted by their names. @throws ERR_OPTION_INVALID of a file that is none */
export function publishedKinds(benchmarks: readonly Benchmark[], options: PublishedOptions = {}): Kind[] {
  return read(options.root ?? packageRoot).map((published) => kind(published, benchmarks, options));
}

/** Publishes a measurement, beside what there is. Returns all kinds and the file it wrote. @throws Error if it cannot be written */
export function keep(
  now: Results,
  benchmarks: readonly Benchmark[],
  options: PublishedOptions = {},
): { kinds: Kind[]; file: string } {
  const { root = packageRoot } = options;
  const name = kindName(now.machine.cpus);
  const before = read(root).find(({ machine }) => kindName(machine.cpus) === name);
  const published = merged(before, now);
  const rows = [...kind(published, benchmarks, options).lines.values()];
  mkdirSync(join(root, FOLDER), { recursive: true });
  writeFileSync(join(root, fileOf(name)), `${JSON.stringify({ ...published, rows })}\n`);
  return { kinds: publishedKinds(benchmarks, options), file: fileOf(name) };
}

function read(root: string): Published[] {
  mkdirSync(join(root, FOLDER), { recursive: true });
  const files = readdirSync(join(root, FOLDER)).filter((file) => file.endsWith('.json'));
  return files.sort().map((file) => readResults(join(root, FOLDER, file)));
}

function kind(
  published: Published,
  benchmarks: readonly Benchmark[],
  { changedSince = changed }: PublishedOptions,
): Kind {
  const lines = new Map<string, Line>();
  for (const { name, comparisons } of benchmarks) {
    const runs = published.runs[name] ?? [];
    for (const comparison of comparisons)
      if (wasMeasured(comparison, runs)) lines.set(comparison.name, judge(comparison, runs));
  }
  const commits = new Map<string, boolean>();
  const isOlder = (commit: string): boolean => {
    const known = commits.get(commit) ?? changedSince(commit);
    commits.set(commit, known);
    return known;
  };
  const older = Object.keys(published.runs).filter((name) => isOlder(measuredAt(published, name).commit));
  return { name: kindName(published.machine.cpus), published, lines, older: new Set(older) };
}

/** Whether its variants were run at all: a comparison may be newer than the runs. */
const wasMeasured = ({ ours, peer = ours }: Comparison, runs: readonly Run[]): boolean =>
  [ours, peer].every((path) => {
    const [variant, figure = ''] = path.split('.');
    const all = runs.filter((run) => run.variant === variant);
    const samples = all.flatMap(({ sample }) => (sample ? [sample] : []));
    return samples.length > 0 ? samples.some((sample) => figure in sample) : all.length > 0;
  });

/** A commit that this copy does not have, or that had changes of its own, is older than what is there. */
function changed(commit: string): boolean {
  try {
    const args = ['-C', packageRoot, 'diff', '--quiet', commit, '--', ...SOURCES];
    execFileSync('git', args, { stdio: 'ignore' });
    return false;
  } catch {
    return true;
  }
}

/** How a comparison stands on all kinds together. */
export interface Standing {
  /** In the order of the kinds; undefined: not measured on that kind. */
  readonly lines: readonly (Line | undefined)[];
  /** Index of the kind that is worse by the goal, of those with a result. Undefined without a goal or a result. */
  readonly worse: number | undefined;
  /** Whether the worse kind meets the goal, and the better one its own. Null: there is no goal, or no result. */
  readonly met: boolean | null;
  /** Whether the better kind meets the higher goal that it has. Null: it has none, or no result. */
  readonly bestMet: boolean | null;
}

export function standing(comparison: Comparison, kinds: readonly Kind[]): Standing {
  const lines = kinds.map(({ lines }) => lines.get(comparison.name));
  const times = lines.flatMap((line, i) => {
    const value = line === undefined ? null : timesGoal(line);
    return value === null ? [] : [{ i, value }];
  });
  if (times.length === 0) return { lines, worse: undefined, met: null, bestMet: null };
  const worse = times.reduce((least, one) => (one.value < least.value ? one : least));
  const best = times.reduce((most, one) => (one.value > most.value ? one : most));
  const { best: goal } = comparison;
  const bestMet = goal === undefined ? null : timesGoal({ ...lines[best.i]!, goal })! >= 1;
  return { lines, worse: worse.i, met: worse.value >= 1 && bestMet !== false, bestMet };
}
