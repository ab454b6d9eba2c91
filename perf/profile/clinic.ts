/**
 * Clinic.js on a port under load: `npm run perf:clinic -- --help`.
 *
 * Clinic is not a dependency of the project: perf/package.json has it. This program works around faults of Clinic:
 * - without a terminal for its question about usage statistics it runs nothing and exits with 0: the question is turned off;
 * - its samplers run in every thread: threads start without them (src/coordinator/thread-environment.ts);
 * - its flame shows the thread that it finds first: the poll loop runs on the main thread;
 * - it also writes a page when it has no data: the page is checked.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Arguments, type CommandTable, text, whole } from '../../src/cli/arguments.ts';
import { TwinpathError } from '../../src/errors.ts';
import { nearest } from '../../src/validation.ts';
import {
  Failure,
  LOAD_OPTIONS,
  loadOf,
  loadProgram,
  messagesIn,
  perfFolder,
  runProgram,
  Session,
  timestamp,
} from './load.ts';

const TOOLS = ['doctor', 'bubbleprof', 'flame', 'heapprofiler'] as const;
type Tool = (typeof TOOLS)[number];

/** For everything but the load. */
const SPARE_SECONDS = 180;

const TABLE: CommandTable = {
  program: 'npm run',
  name: 'perf:clinic --',
  summary: 'Clinic.js on a port under load: writes one HTML page, and opens no browser',
  positionals: ['TOOL'],
  options: {
    ...LOAD_OPTIONS,
    install: { help: 'install clinic in perf/ first, if it is not there (npm ci --prefix perf)' },
    prefix: { value: 'DIR', help: 'where clinic is installed', otherwise: 'perf' },
    timeout: {
      value: 'N',
      help: 'seconds for everything',
      otherwise: `the load and ${SPARE_SECONDS}`,
    },
    disk: { value: 'N', help: 'megabytes that clinic may write', otherwise: '1000' },
  },
  notes: [
    'doctor and bubbleprof show the process that opened the port, and its main thread. flame and\n' +
      'heapprofiler show the poll loop, which then runs on the main thread, with one queue in memory.\n' +
      'The first Ctrl-C ends the load, and clinic writes its page; the second one ends everything.',
  ],
  examples: [['npm run perf:clinic -- flame', 'where the time of the poll loop goes']],
  exits: [
    [0, 'the page holds data'],
    [1, 'there is no page, or it holds no data'],
    [2, 'the command line was wrong'],
    [130, 'interrupted'],
  ],
};

/** Clinic's program. @throws Failure if it is not installed */
function clinicProgram(args: Arguments): string {
  const folder = resolve(text(args, 'prefix') ?? perfFolder);
  const program = join(folder, 'node_modules', 'clinic', 'bin.js');
  if (!existsSync(program) && args.flags.has('install')) {
    const npm = ['ci', '--prefix', folder, '--no-audit', '--no-fund'];
    spawnSync('npm', npm, { stdio: ['ignore', process.stderr, process.stderr] });
  }
  if (existsSync(program)) return program;
  const command = `npm ci --prefix ${folder}`;
  throw new Failure(`Clinic.js is not installed in ${folder}. Run "${command}" (150 MB), or give --install.`);
}

async function run(args: Arguments): Promise<number> {
  const tool = toolOf(args.positionals[0]!);
  const load = loadOf(args, tool === 'flame' || tool === 'heapprofiler');
  const timeoutSeconds = whole(args, 'timeout', load.seconds + 1, 7200) ?? load.seconds + SPARE_SECONDS;
  const megabytes = whole(args, 'disk', 1, 100_000) ?? 1000;
  const program = clinicProgram(args);
  const session = new Session(args, load);
  const { scratch } = session;
  const own = [program, tool, '--open=false', '--dest', '.', '--name', 'report', '--'];
  const config = { NO_INSIGHT: '1', NO_UPDATE_NOTIFIER: '1', XDG_CONFIG_HOME: join(scratch, 'config') };
  try {
    const printed = await session.run(process.execPath, [...own, process.execPath, ...loadProgram(load)], {
      name: 'Clinic',
      env: { ...process.env, ...config },
      timeoutSeconds,
      limit: () => (bytesUnder(scratch) > megabytes * 1e6 ? `it wrote more than ${megabytes} MB` : undefined),
    });
    const page = join(scratch, `report.clinic-${tool}.html`);
    if (!existsSync(page)) throw new Failure('Clinic wrote no page.', printed);
    const html = readFileSync(page, 'utf8');
    const ended = messagesIn(printed).find((message) => message.kind === 'ended');
    // NB: with flame, Ctrl-C ends the load at once (0x's own handler), before it can report.
    if (!ended && session.interrupted === 0) throw new Failure('The load did not run to its end.', printed);
    const evidence = evidenceIn(tool, html);
    if (evidence.count === 0) {
      const known = tool === 'bubbleprof' ? ' It reads what Node 20 traces, and nothing of Node 24.' : '';
      throw new Failure(`Clinic's page holds no data: no ${evidence.what}.${known}`, printed);
    }
    const report = join(session.out, `clinic-${tool}-${timestamp()}.html`);
    renameSync(page, report);
    const bytes = Buffer.byteLength(html);
    const words = `${report}\n${Math.round(bytes / 1000)} kB, ${evidence.count} ${evidence.what}`;
    const document = { tool, report, bytes, evidence, load: ended };
    process.stdout.write(`${args.flags.has('json') ? JSON.stringify(document) : words}\n`);
    return session.interrupted;
  } finally {
    session.close();
  }
}

/** @throws ERR_OPTION_INVALID */
function toolOf(name: string): Tool {
  const tool = TOOLS.find((one) => one === name);
  if (tool !== undefined) return tool;
  const near = nearest(name, TOOLS);
  const hint = near === undefined ? `There are ${TOOLS.join(', ')}.` : `Did you mean ${near}?`;
  throw new TwinpathError('ERR_OPTION_INVALID', { device: 'TOOL', detail: `there is no ${name}`, hint });
}

/** Disk space that the files under a folder take; 0 if it cannot be read. */
const bytesUnder = (folder: string): number =>
  1024 * Number.parseInt(spawnSync('du', ['-sk', folder], { encoding: 'utf8' }).stdout || '0', 10);

export interface Evidence {
  /** What was counted. */
  readonly what: 'samples' | 'functions of ours';
  readonly count: number;
}

/** A file of this project in a stack frame, as it is in the pages' data. */
const OURS = /dist[/\\]+(?:src|workers|perf)[/\\]+([\w/\\-]+\.js)(?::(\d+):(\d+))?/g;
const DATA = /<script type="application\/json" id="clinic-data">([\s\S]*?)<\/script>/;

/** A page of doctor has samples of the process; the others name functions. */
export function evidenceIn(tool: Tool, html: string): Evidence {
  if (tool === 'doctor') return { what: 'samples', count: doctorSamples(html) };
  return { what: 'functions of ours', count: new Set(html.match(OURS)).size };
}

function doctorSamples(html: string): number {
  try {
    const { processStat } = JSON.parse(DATA.exec(html)?.[1] ?? '{}') as {
      processStat?: { data?: unknown[] } | unknown[];
    };
    const samples = Array.isArray(processStat) ? processStat : processStat?.data;
    return samples?.length ?? 0;
  } catch {
    return 0;
  }
}

if (realpathSync(process.argv[1]!) === fileURLToPath(import.meta.url)) await runProgram(TABLE, run);
