/** The profiled program, a port under load in its own process (workload.ts): its options, and the line that it prints. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Arguments, type CommandTable, oneOf, text, whole } from '../../src/cli/arguments.ts';
import { cleanUpStaleLabs } from '../../src/lab/namespaces.ts';
import { packageRoot } from '../../src/package-root.ts';
import { invalid } from '../../src/validation.ts';
import { Failure } from '../runner/command.ts';
import { type GroupOptions, runGroup } from '../runner/process-group.ts';

export interface Load {
  readonly network: 'memory' | 'veth';
  /** The handler is reflect.wasm, not reflect.js. */
  readonly wasm: boolean;
  readonly queues: number;
  readonly seconds: number;
  /** Only the datapath's loop runs, on the main thread: rigs/bare-loop.ts. */
  readonly inline: boolean;
}

export const LOAD_OPTIONS: CommandTable['options'] = {
  seconds: { value: 'N', help: 'how long the load lasts', otherwise: '10' },
  network: {
    value: 'KIND',
    help: 'rings in memory, or veth: the VF of a lab under UDP, as root',
    otherwise: 'memory',
  },
  wasm: { help: 'the handler reflect in WebAssembly, not in TypeScript' },
  queues: { value: 'N', help: 'queues and workers', otherwise: '1' },
  out: { value: 'DIR', help: 'where the result goes', otherwise: 'perf/results/profiles, which git ignores' },
};

/** @param inline for a profiler that sees one thread only. @throws ERR_OPTION_INVALID */
export function loadOf(args: Arguments, inline: boolean): Load {
  const network = oneOf(args, 'network', ['memory', 'veth']) ?? 'memory';
  const queues = whole(args, 'queues', 1, 16) ?? 1;
  const seconds = whole(args, 'seconds', 1, 3600) ?? 10;
  if (inline && (network === 'veth' || queues > 1)) {
    const detail =
      'this profiler sees one thread, with one queue in memory; perf:profile shows all threads and the kernel';
    invalid(queues > 1 ? '--queues' : '--network', detail);
  }
  return { network, wasm: args.flags.has('wasm'), queues, seconds, inline };
}

/** The load's command line, without node. */
export const loadProgram = (load: Load): readonly string[] => [
  fileURLToPath(new URL('workload.js', import.meta.url)),
  JSON.stringify(load),
];

/** What the load prints, as one line of JSON, when it has ended. */
export interface Ended {
  readonly kind: 'ended';
  readonly pid: number;
  /** From the moment when packets flowed. */
  readonly seconds: number;
  /** That the port sent back. */
  readonly packets: number;
}

/** The load's line among what profilers print to the same stream, if it is there and whole. */
export function endedIn(output: string): Ended | undefined {
  const line = output
    .split('\n')
    .slice(0, -1)
    .findLast((line) => line.startsWith('{"kind":"ended"'));
  return line === undefined ? undefined : JSON.parse(line);
}

interface RunOptions extends Omit<GroupOptions, 'output'> {
  /** In messages. Default: the command. */
  readonly name?: string;
  readonly output?: (text: string) => void;
}

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

/**
 * One use of a profiler: its load, its folders, and the programs that it runs until they end or Ctrl-C. The first Ctrl-C asks
 * them to end, a second one kills them.
 */
export class Session {
  readonly load: Load;
  /** Where results go. */
  readonly out: string;
  /** Working directory of the programs, removed at the end. */
  readonly scratch: string;
  /** What a shell expects of an interrupted process; 0 if it was not. */
  interrupted = 0;
  readonly #interrupt = new AbortController();
  readonly #kill = new AbortController();

  /** @throws ERR_OPTION_INVALID */
  constructor(args: Arguments, load: Load) {
    this.load = load;
    this.out = resolve(text(args, 'out') ?? join(perfFolder, 'results', 'profiles'));
    mkdirSync(this.out, { recursive: true });
    this.scratch = mkdtempSync(join(this.out, '.profile-'));
    for (const [name, code] of Object.entries(SIGNALS)) {
      process.on(name, () => {
        (this.interrupted === 0 ? this.#interrupt : this.#kill).abort();
        this.interrupted = code;
      });
    }
  }

  /**
   * Runs a program. Returns what it printed; standard output goes to `output` instead if there is one.
   *
   * @throws Failure with what it printed, if it does not end well
   */
  async run(
    command: string,
    args: readonly string[],
    { output, name = command, ...limits }: RunOptions,
  ): Promise<string> {
    let printed = '';
    const { code, killed } = await runGroup(command, args, {
      ...{ cwd: this.scratch, interrupt: this.#interrupt.signal, kill: this.#kill.signal },
      ...limits,
      output: (text, stream) => {
        if (output === undefined || stream === 'stderr') printed += text;
        else output(text);
      },
    });
    if (killed === undefined && code === 0) return printed;
    const why =
      killed === undefined ? `${name} failed (${code ?? 'a signal'}).` : `${name} was ended: ${killed}.`;
    throw new Failure(why, printed, this.interrupted || 1);
  }

  close(): void {
    rmSync(this.scratch, { recursive: true, force: true });
    if (this.load.network === 'veth') cleanUpStaleLabs(); // of a load that was killed
  }
}

/** perf/: Clinic.js is installed there, and git ignores results/ below it. */
export const perfFolder = join(packageRoot, 'perf');

/** `2026-01-31T12-00-00`: a part of file names that sorts by time. */
export const timestamp = (): string => new Date().toISOString().slice(0, 19).replaceAll(':', '-');
