/** Runs the variants of a benchmark in turn, until there are enough runs or more of them would not help. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Benchmark, Sample } from './benchmark.ts';
import { runGroup } from './process-group.ts';
import { judge, type Line, type Run, wantsMore } from './verdict.ts';

export interface SamplingOptions {
  readonly quick: boolean;
  /** Aborts at Ctrl-C: the running variant gets SIGINT. */
  readonly signal: AbortSignal;
  /** Called before each run. */
  readonly onRun: (variant: string, turn: number, turns: number) => void;
  /** Called with each line that a variant prints before its figures. */
  readonly onProgress: (text: string) => void;
  /** What runs a variant; tests have another than variant.js. */
  readonly program?: URL;
  /** CPU time of the machine until now; tests have their own. */
  readonly cpuTime?: () => CpuTime;
}

/** A run during which the hypervisor took more of the CPUs than this is set aside. */
const MAX_STOLEN = 0.05;
/** What a variant may take in addition to its measuring: to build a lab, to start DPDK. */
const GRACE_SECONDS = 45;
/** What an interrupted variant may take to remove what it has built. */
const CLEANUP_MILLIS = 5000;

export async function sample(
  benchmark: Benchmark,
  options: SamplingOptions,
): Promise<{ lines: Line[]; runs: Run[] }> {
  const { runs: turns, seconds } = options.quick ? benchmark.quick : benchmark.full;
  const runs: Run[] = [];
  const judged = (): Line[] => benchmark.comparisons.map((comparison) => judge(comparison, runs));
  const broken = new Set<string>();
  // A noisy benchmark gets half as many turns again, once.
  for (let turn = 0; turn < turns + Math.ceil(turns / 2); turn++) {
    if (turn >= turns && !judged().some(wantsMore)) break;
    for (const variant of Object.keys(benchmark.variants)) {
      if (options.signal.aborted) return { lines: judged(), runs };
      if (broken.has(variant)) continue;
      options.onRun(variant, turn, turns);
      runs.push({ variant, turn, ...(await runVariant(benchmark.name, variant, seconds, options)) });
      // A variant that fails twice before it has ever worked (its peer is missing) will not work the third time.
      const all = runs.filter((run) => run.variant === variant);
      const failed = all.every((run) => run.failure !== undefined && !run.failure.startsWith('noisy'));
      if (all.length >= 2 && failed) broken.add(variant);
    }
  }
  return { lines: judged(), runs };
}

async function runVariant(
  benchmark: string,
  variant: string,
  seconds: number,
  options: SamplingOptions,
): Promise<{ sample: Sample } | { failure: string }> {
  const {
    quick,
    signal,
    onProgress,
    program = new URL('./variant.js', import.meta.url),
    cpuTime = readCpuTime,
  } = options;
  const args = [fileURLToPath(program), benchmark, variant, String(seconds), ...(quick ? ['quick'] : [])];
  const before = cpuTime();
  const text = { stdout: '', stderr: '' };
  let figures: string | undefined;
  const late = new AbortController();
  const onAbort = (): void => void sleep(CLEANUP_MILLIS, undefined, { ref: false }).then(() => late.abort());
  signal.addEventListener('abort', onAbort, { once: true });
  const { code, killed } = await runGroup(process.execPath, args, {
    timeoutSeconds: seconds + GRACE_SECONDS,
    interrupt: signal,
    kill: late.signal,
    output: (chunk, stream) => {
      text[stream] += chunk;
      const lines = text[stream].split('\n');
      const rest = lines.pop()!;
      if (stream === 'stderr') text.stderr = [...lines.slice(-10), rest].join('\n');
      else {
        text.stdout = rest;
        for (const line of lines)
          if (line.startsWith('{')) figures = line;
          else onProgress(line);
      }
    },
  });
  signal.removeEventListener('abort', onAbort);
  if (signal.aborted) return { failure: 'interrupted' };
  if (killed !== undefined) return { failure: killed };
  if (code !== 0) return { failure: text.stderr.trimEnd().split('\n').at(-1) || `exit code ${code}` };
  if (figures === undefined) return { failure: 'no result: it printed no figures' };
  const stolen = stolenShare(before, cpuTime());
  if (stolen <= MAX_STOLEN) return { sample: JSON.parse(figures) };
  return { failure: `noisy: the hypervisor took ${Math.round(stolen * 100)} % of the CPUs` };
}

export interface CpuTime {
  /** USER_HZ of all CPUs together since the machine started. */
  readonly total: number;
  /** Of these, what the hypervisor gave to other guests: `steal` of /proc/stat, see proc(5). */
  readonly stolen: number;
}

export function readCpuTime(stat: string = readFileSync('/proc/stat', 'utf8')): CpuTime {
  const ticks = stat.split('\n', 1)[0]!.trim().split(/\s+/).slice(1, 9).map(Number);
  return { total: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks[7] ?? 0 };
}

/** Share of the machine's CPU time, 0 to 1, that the hypervisor took between two readings. */
export function stolenShare(before: CpuTime, after: CpuTime): number {
  const total = after.total - before.total;
  return total > 0 ? (after.stolen - before.stolen) / total : 0;
}
