/**
 * Clinic.js on a port under load: `npm run perf:clinic -- --help`.
 *
 * Clinic is not a dependency of the project: perf/package.json has it. This program works around faults of Clinic:
 * - without a terminal for its question about usage statistics it runs nothing and exits with 0: the question is turned off;
 * - its samplers run in every thread: threads start without them (src/coordinator/thread-environment.ts);
 * - its flame shows the thread that it finds first: the datapath's loop runs on the main thread;
 * - it also writes a page when it has no data: the page is checked.
 */
import { existsSync, readFileSync, realpathSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Arguments, type CommandTable, text } from '../../src/cli/arguments.ts';
import { oneOf } from '../../src/validation.ts';
import { Failure, runProgram } from '../runner/command.ts';
import { endedIn, LOAD_OPTIONS, loadOf, loadProgram, perfFolder, Session, timestamp } from './load.ts';

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
    prefix: { value: 'DIR', help: 'where clinic is installed', otherwise: 'perf' },
  },
  notes: [
    'doctor and bubbleprof show the process that opened the port, and its main thread. flame and\n' +
      'heapprofiler show the datapath’s loop, which then runs alone on the main thread, over a ring in memory.\n' +
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

async function run(args: Arguments): Promise<number> {
  const tool = oneOf('TOOL', args.positionals[0], TOOLS);
  const load = loadOf(args, tool === 'flame' || tool === 'heapprofiler');
  const folder = resolve(text(args, 'prefix') ?? perfFolder);
  const program = join(folder, 'node_modules', 'clinic', 'bin.js');
  if (!existsSync(program)) {
    throw new Failure(`Clinic.js is not installed in ${folder}. Run "npm ci --prefix ${folder}" (150 MB).`);
  }
  const session = new Session(args, load);
  const { scratch } = session;
  const own = [program, tool, '--open=false', '--dest', '.', '--name', 'report', '--'];
  const config = { NO_INSIGHT: '1', NO_UPDATE_NOTIFIER: '1', XDG_CONFIG_HOME: join(scratch, 'config') };
  try {
    const printed = await session.run(process.execPath, [...own, process.execPath, ...loadProgram(load)], {
      name: 'Clinic',
      env: { ...process.env, ...config },
      timeoutSeconds: load.seconds + SPARE_SECONDS,
    });
    const page = join(scratch, `report.clinic-${tool}.html`);
    if (!existsSync(page)) throw new Failure('Clinic wrote no page.', printed);
    const html = readFileSync(page, 'utf8');
    const ended = endedIn(printed);
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
