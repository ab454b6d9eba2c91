/** The command lines of the profiling programs: parsed, checked, and each mistake explained. Pure. */
import { parseArgs } from 'node:util';
import { nearest } from '../../src/options.ts';

/** What was typed is wrong: exit code 2. */
export class UsageError extends Error {}

export const TOOLS = ['doctor', 'flame', 'bubbleprof', 'heapprofiler'] as const;
export type Tool = (typeof TOOLS)[number];

/** What runs while it is profiled. */
export interface Workload {
  readonly network: 'memory' | 'veth';
  /** `reflect` or `echo`. */
  readonly handler: string;
  /** In WebAssembly, not TypeScript. */
  readonly wasm: boolean;
  readonly queues: number;
  readonly seconds: number;
  /** The poll loop on the main thread, with no other thread beside it. */
  readonly inline: boolean;
}

export interface ClinicOptions {
  readonly tool: Tool;
  readonly workload: Workload;
  readonly install: boolean;
  readonly json: boolean;
  /** Seconds for everything together. */
  readonly timeout: number;
  /** Megabytes that may lie on the disk meanwhile. */
  readonly disk: number;
  /** Where clinic is installed. */
  readonly prefix: string | undefined;
  readonly out: string | undefined;
}

export interface ProfileOptions {
  readonly workload: Workload;
  readonly json: boolean;
  readonly out: string | undefined;
  /** Functions a table shows. */
  readonly top: number;
  /** Whether the frames inside V8 and node are drawn one by one. */
  readonly full: boolean;
}

type Given = string | boolean | undefined;
type Row = { readonly type: 'string' | 'boolean' };
type Values = Readonly<Record<string, Given>>;

const WORKLOAD = {
  network: { type: 'string' },
  handler: { type: 'string' },
  wasm: { type: 'boolean' },
  queues: { type: 'string' },
  seconds: { type: 'string' },
} as const satisfies Record<string, Row>;

/** Of the workload program. @throws UsageError */
export function parseWorkload(args: readonly string[]): Workload | 'help' {
  const rows = { ...WORKLOAD, inline: { type: 'boolean' }, help: { type: 'boolean' } } as const;
  const { values } = parse(args, rows, 0);
  return values.help ? 'help' : workload(values, values.inline === true);
}

/**
 * Of `perf:clinic`. What follows `--` is the workload's, and what the workload is told twice it is told last there.
 *
 * @throws UsageError
 */
export function parseClinic(args: readonly string[]): ClinicOptions | 'help' {
  const own = {
    ...WORKLOAD,
    install: { type: 'boolean' },
    json: { type: 'boolean' },
    timeout: { type: 'string' },
    disk: { type: 'string' },
    out: { type: 'string' },
    prefix: { type: 'string' },
    help: { type: 'boolean' },
  } as const;
  const { values: mine, positionals, rest } = parse(args, own, 1);
  if (mine.help) return 'help';
  const [name] = positionals;
  if (name === undefined) throw new UsageError(`which tool? There are ${TOOLS.join(', ')}`);
  const tool = oneOf('tool', name, TOOLS);
  const { values: theirs } = parse(rest, WORKLOAD, 0);
  const values = { ...mine, ...theirs };
  const inline = tool === 'flame' || tool === 'heapprofiler';
  const chosen = workload(values, inline);
  const timeout = whole('timeout', mine.timeout, chosen.seconds + 180, 1, 7200);
  if (timeout <= chosen.seconds) {
    throw new UsageError(
      `--timeout is for everything together: more than the ${chosen.seconds} s of the workload`,
    );
  }
  return {
    ...{ tool, workload: chosen, timeout },
    install: mine.install === true,
    json: mine.json === true,
    disk: whole('disk', mine.disk, 1000, 1, 100_000),
    out: text('out', mine.out),
    prefix: text('prefix', mine.prefix),
  };
}

/** Of `perf:profile`. @throws UsageError */
export function parseProfile(args: readonly string[]): ProfileOptions | 'help' {
  const own = {
    ...WORKLOAD,
    json: { type: 'boolean' },
    out: { type: 'string' },
    top: { type: 'string' },
    full: { type: 'boolean' },
    help: { type: 'boolean' },
  } as const;
  const { values: mine, rest } = parse(args, own, 0);
  if (mine.help) return 'help';
  const { values: theirs } = parse(rest, WORKLOAD, 0);
  return {
    workload: workload({ ...mine, ...theirs }, false),
    json: mine.json === true,
    out: text('out', mine.out),
    top: whole('top', mine.top, 10, 1, 1000),
    full: mine.full === true,
  };
}

/** As the workload program is started. */
export function workloadArguments({
  network,
  handler,
  wasm,
  queues,
  seconds,
  inline,
}: Workload): readonly string[] {
  return [
    ...['--network', network, '--handler', handler, '--queues', String(queues), '--seconds', String(seconds)],
    ...(wasm ? ['--wasm'] : []),
    ...(inline ? ['--inline'] : []),
  ];
}

function workload(values: Values, inline: boolean): Workload {
  const network = oneOf('--network', text('network', values.network) ?? 'memory', ['memory', 'veth']);
  const queues = whole('queues', values.queues, 1, 1, 16);
  if (inline && network === 'veth') {
    throw new UsageError(
      'this profiler sees one thread, on which the poll loop then runs: over the memory path only. ' +
        'perf:profile shows all threads over veth, and the kernel',
    );
  }
  const handler = oneOf('--handler', text('handler', values.handler) ?? 'reflect', ['reflect', 'echo']);
  if (handler === 'echo' && network === 'memory') {
    throw new UsageError('the packets of the memory network are empty: only reflect sends them back');
  }
  if (inline && queues > 1) throw new UsageError('this profiler sees one thread: --queues 1');
  return {
    ...{ network, handler, queues, inline },
    wasm: values.wasm === true,
    seconds: whole('seconds', values.seconds, 10, 1, 3600),
  };
}

/** What follows a `--` comes back as `rest`. */
function parse<Rows extends Readonly<Record<string, Row>>>(
  args: readonly string[],
  options: Rows,
  most: number,
): { values: Values; positionals: readonly string[]; rest: readonly string[] } {
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  const names = Object.keys(options);
  for (const arg of own) {
    const name = /^--([^=]+)/.exec(arg)?.[1];
    if (name === undefined || names.includes(name)) continue;
    const near = nearest(name, names);
    const hint = near === undefined ? '--help lists them' : `did you mean --${near}?`;
    throw new UsageError(`there is no option --${name}: ${hint}`);
  }
  try {
    const { values, positionals } = parseArgs({ args: [...own], options, allowPositionals: true });
    if (positionals.length > most)
      throw new UsageError(`${positionals[most]} is one word too many: --help explains`);
    return { values: values as Values, positionals, rest: end < 0 ? [] : args.slice(end + 1) };
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(error.message.split('\n')[0]!);
  }
}

function text(name: string, value: Given): string | undefined {
  if (value === undefined || (typeof value === 'string' && value !== '')) return value;
  throw new UsageError(`--${name} needs a value`);
}

function whole(name: string, value: Given, otherwise: number, least: number, most: number): number {
  if (value === undefined) return otherwise;
  const number = /^\d+$/.test(String(value)) ? Number(value) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(`--${name} takes a whole number from ${least} to ${most}, not ${value}`);
}

function oneOf<const T extends string>(what: string, value: string, allowed: readonly T[]): T {
  if (allowed.includes(value as T)) return value as T;
  const near = nearest(value, allowed);
  const hint = near === undefined ? '' : `: did you mean ${near}?`;
  throw new UsageError(`${what} is ${allowed.join(', ')}, not ${value}${hint}`);
}
