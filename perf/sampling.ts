/**
 * Runs the sides of a row in turn, each in a process of its own, until there are enough runs or they will
 * not become better.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Row, Sample } from './row.ts';
import { judge, type Line, type Run, wantsMore } from './verdict.ts';
import { stolenShare, type Weather, weather } from './weather.ts';

export interface SamplingOptions {
  readonly quick: boolean;
  /** Aborts at Ctrl-C: the side that runs is told, and cleans up. */
  readonly signal: AbortSignal;
  /** Told what begins. */
  readonly progress: (side: string, turn: number, turns: number) => void;
  /** Told what a side says while it measures. */
  readonly heard: (text: string) => void;
  /** What runs a side; for tests another than side.js. */
  readonly program?: URL;
  /** What the machine has done until now; for tests, which the machine's neighbours must not fail. */
  readonly look?: () => Weather;
}

/** Before what a side says on standard error that is no failure. */
export const SAYS = '> ';

/** A run during which the hypervisor gave away more than this is set aside. */
const STOLEN = 0.05;
/** What a side may take beyond what it measures: building a lab, starting DPDK. */
const GRACE_SECONDS = 45;
/** Time that a side that was told to stop has to clean up. */
const TIDY_MILLIS = 5000;

export async function sample(row: Row, options: SamplingOptions): Promise<{ lines: Line[]; runs: Run[] }> {
  const { runs: turns, seconds } = options.quick ? row.quick : row.full;
  const runs: Run[] = [];
  const judged = (): Line[] => row.comparisons.map((comparison) => judge(comparison, runs));
  // Noise gets half as many turns again, once.
  const most = turns + Math.ceil(turns / 2);
  const broken = new Set<string>();
  for (let turn = 0; turn < most; turn++) {
    if (turn >= turns && !judged().some(wantsMore)) break;
    for (const side of Object.keys(row.sides)) {
      if (options.signal.aborted) return { lines: judged(), runs };
      if (broken.has(side)) continue;
      options.progress(side, turn, turns);
      const run = await runSide(row.name, side, seconds, options);
      runs.push({ side, turn, ...run });
      // What fails twice before it has ever worked (a peer that is not there) will not work the third time.
      const all = runs.filter((one) => one.side === side);
      if (
        all.length >= 2 &&
        all.every((one) => one.sample === undefined && !one.failure?.startsWith('noisy'))
      ) {
        broken.add(side);
      }
    }
  }
  return { lines: judged(), runs };
}

async function runSide(
  row: string,
  side: string,
  seconds: number,
  { quick, signal, heard, program = new URL('./side.js', import.meta.url), look = weather }: SamplingOptions,
): Promise<{ sample?: Sample; failure?: string }> {
  const before = look();
  const args = [fileURLToPath(program), row, side, String(seconds)];
  // A process group of its own: Ctrl-C reaches this program alone, and what the side started ends with it.
  const child = spawn(process.execPath, quick ? [...args, 'quick'] : args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (data) => {
    out += data;
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (line.startsWith(SAYS)) heard(line.slice(SAYS.length));
    else err = `${err}${line}\n`.slice(-4000);
  });
  let late = false;
  const tell = (): void => {
    signalGroup(child.pid, 'SIGTERM');
    setTimeout(() => signalGroup(child.pid, 'SIGKILL'), TIDY_MILLIS).unref();
  };
  const timer = setTimeout(
    () => {
      late = true;
      tell();
    },
    (seconds + GRACE_SECONDS) * 1000,
  );
  signal.addEventListener('abort', tell, { once: true });
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  signalGroup(child.pid, 'SIGKILL');
  clearTimeout(timer);
  signal.removeEventListener('abort', tell);
  if (signal.aborted) return { failure: 'interrupted' };
  if (late) return { failure: `not done ${GRACE_SECONDS} s after it should have been` };
  if (code !== 0) return { failure: lastLine(err) || `exit code ${code}` };
  const measured = parsed(lastLine(out));
  if (measured === undefined) {
    return { failure: `it printed ${JSON.stringify(lastLine(out))}, which is no result` };
  }
  const stolen = stolenShare(before, look());
  if (stolen <= STOLEN) return { sample: measured };
  return { failure: `noisy: the hypervisor took ${Math.round(stolen * 100)} % of the CPUs` };
}

function parsed(line: string): Sample | undefined {
  try {
    return JSON.parse(line) as Sample;
  } catch {
    return undefined;
  }
}

/** To a side and everything it started that is still there. */
function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {} // the group is gone
}

const lastLine = (text: string): string => text.trimEnd().split('\n').at(-1) ?? '';
