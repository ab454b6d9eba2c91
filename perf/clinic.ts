/**
 * Clinic.js on a port under load: `npm run perf:clinic -- --help`.
 *
 * Clinic is no dependency of the project: perf/package.json has it. What it gets wrong by itself is put right here. It
 * runs nothing, prints nothing and answers 0 when nobody can answer its question about usage statistics, so the question
 * is never asked; its samplers run in every thread, so threads are started without them
 * (src/coordinator/thread-environment.ts); its flame shows the thread that is found first, so there is but one; and it
 * writes a page without data as readily as one with, so the page is read.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, statfsSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { cleanUpStaleLabs } from '../src/lab/namespaces.ts';
import { type Outcome, runGuarded } from './profiling/guarded.ts';
import { type ClinicOptions, parseClinic, UsageError, workloadArguments } from './profiling/options.ts';
import { perfFolder, profilesFolder, stamp, workloadProgram } from './profiling/place.ts';
import { evidenceIn } from './profiling/report.ts';
import { type Ended, messagesIn } from './profiling/said.ts';

const HELP = `Clinic.js on a port under load. Writes one HTML page; no browser is needed, and none is opened.

    npm run perf:clinic -- TOOL [options] [-- options of the workload]

  doctor         event loop, CPU and memory of the process: a port with its threads
  bubbleprof     asynchronous operations of the thread that opened the port
  flame          where the poll loop's time goes: it runs on the main thread, and there is no other
  heapprofiler   what the poll loop allocates: the same

  --seconds N    how long the load lasts (default: 10)
  --network KIND memory: rings in memory (default). veth: the VF of a lab, as root; doctor and bubbleprof only
  --handler NAME reflect (default); over veth also echo
  --wasm         its WebAssembly twin
  --queues N     queues and workers; doctor and bubbleprof only (default: 1)
  --install      install clinic in perf/ first, if it is not there (npm ci --prefix perf)
  --prefix DIR   where it is installed (default: perf)
  --out DIR      where the page goes (default: perf/results/profiles, which git ignores)
  --timeout N    seconds for everything together (default: those of the load and 180)
  --disk N       megabytes that clinic may write meanwhile (default: 1000)
  --json         one JSON document on standard output

Ctrl-C ends the load, and the page is written; a second one ends everything, and nothing is left.
Exit codes: 0, the page is there and holds data; 1, it is not; 2, the command line was wrong; 130, interrupted.
`;

/** What clinic needs beside what it may write: the page. */
const SPARE_BYTES = 50e6;

class Failure extends Error {
  readonly code: number;

  constructor(message: string, code = 1) {
    super(message);
    this.code = code;
  }
}

function clinicProgram({ prefix, install }: ClinicOptions): string {
  const folder = prefix === undefined ? perfFolder : resolve(prefix);
  const program = join(folder, 'node_modules', 'clinic', 'bin.js');
  if (existsSync(program)) return program;
  const shown = relative(process.cwd(), folder) || '.';
  const command = `npm ci --prefix ${shown.startsWith('..') ? folder : shown}`;
  if (!install) {
    throw new Failure(
      `Clinic.js is not installed in ${folder}. Run "${command}" (150 MB), or give --install.`,
    );
  }
  process.stderr.write(`${command}\n`);
  const { status } = spawnSync('npm', ['ci', '--prefix', folder, '--no-audit', '--no-fund'], {
    stdio: ['ignore', process.stderr, process.stderr],
  });
  if (status === 0 && existsSync(program)) return program;
  throw new Failure(`"${command}" did not install Clinic.js.`);
}

interface Report {
  readonly tool: string;
  readonly report: string;
  readonly bytes: number;
  readonly evidence: { readonly what: string; readonly count: number };
  /** Undefined if it could not say. */
  readonly load: Ended | undefined;
}

async function run(options: ClinicOptions): Promise<{ report: Report; interrupted: number }> {
  const { tool, workload, disk, timeout } = options;
  const program = clinicProgram(options);
  const out = profilesFolder(options.out);
  const { bavail, bsize } = statfsSync(out);
  if (bavail * bsize < disk * 1e6 + SPARE_BYTES) {
    const free = Math.floor((bavail * bsize) / 1e6);
    throw new Failure(
      `There are ${free} MB free at ${out}, and clinic may write ${disk}: make room, or give --disk.`,
    );
  }
  const folder = mkdtempSync(join(out, '.clinic-'));
  let said = '';
  try {
    const load = [process.execPath, workloadProgram, ...workloadArguments(workload)];
    const outcome = await runGuarded(
      process.execPath,
      [program, tool, '--open=false', '--dest', '.', '--name', 'report', '--', ...load],
      {
        cwd: folder,
        env: {
          ...process.env,
          NO_INSIGHT: '1',
          NO_UPDATE_NOTIFIER: '1',
          XDG_CONFIG_HOME: join(folder, 'config'),
        },
        ...{ folder, timeoutSeconds: timeout, mostBytes: disk * 1e6 },
        output: (text) => {
          said += text;
        },
      },
    );
    const page = join(folder, `report.clinic-${tool}.html`);
    const html = judged(outcome, page);
    const ended = messagesIn(said).find((message) => message.kind === 'ended');
    // NB: with flame, Ctrl-C ends the load where it is (0x's own handler), before it can say how far it came.
    if (ended === undefined && outcome.interrupted === 0) {
      throw new Failure('The load did not run to its end.');
    }
    const evidence = evidenceIn(tool, html);
    if (evidence.count === 0) {
      const known =
        tool === 'bubbleprof' ? ' It reads what Node 20 traces, and finds nothing in what Node 24 does.' : '';
      throw new Failure(`Clinic's page holds no data: no ${evidence.what}.${known}`);
    }
    const report = join(out, `clinic-${tool}-${stamp(new Date())}.html`);
    renameSync(page, report);
    const bytes = Buffer.byteLength(html);
    return { report: { tool, report, bytes, evidence, load: ended }, interrupted: outcome.interrupted };
  } catch (error) {
    if (error instanceof Failure && said !== '') {
      throw new Failure(`${error.message}\nWhat was printed:\n${said.trimEnd()}`, error.code);
    }
    throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    if (workload.network === 'veth') cleanUpStaleLabs(); // of a load that was ended by force
  }
}

/** The page, if clinic has ended well. */
function judged({ code, ended, interrupted }: Outcome, page: string): string {
  if (ended !== undefined) throw new Failure(`Clinic was ended: ${ended}.`, interrupted || 1);
  if (code !== 0) throw new Failure(`Clinic failed (${code ?? 'a signal'}).`);
  if (!existsSync(page)) throw new Failure('Clinic wrote no page.');
  return readFileSync(page, 'utf8');
}

try {
  const options = parseClinic(process.argv.slice(2));
  if (options === 'help') process.stdout.write(HELP);
  else {
    const { report, interrupted } = await run(options);
    const { evidence, bytes } = report;
    process.stdout.write(
      options.json
        ? `${JSON.stringify(report)}\n`
        : `${report.report}\n${Math.round(bytes / 1000)} kB, ${evidence.count} ${evidence.what}\n`,
    );
    process.exitCode = interrupted;
  }
} catch (error) {
  if (!(error instanceof UsageError || error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : error.code;
}
