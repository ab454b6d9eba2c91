/**
 * Runs spin over a model of test/models: explores every interleaving of one configuration. spin writes a C program (pan),
 * which cc compiles. test/peers.sh installs both.
 */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const MODELS = fileURLToPath(new URL('../models/', import.meta.url));
const run = promisify(execFile);

export interface Check {
  /** File in test/models, without `.pml`. */
  readonly model: string;
  /** Macros of the model: the size of the configuration, and the step that is left out. */
  readonly define?: Readonly<Record<string, number | true>>;
  /** Name of an `ltl` formula: looks for an endless run that breaks it, in which no thread is kept from running for ever. */
  readonly formula?: string;
}

export interface Exploration {
  /** What spin found broken; undefined: nothing. */
  readonly failure: string | undefined;
  readonly states: number;
  /** Steps of the longest run without a state twice. */
  readonly depth: number;
  readonly seconds: number;
  readonly mebibytes: number;
}

/** Why no model can be checked here; undefined if it can. */
export function spinMissing(): string | undefined {
  for (const program of ['spin', 'cc']) {
    const { error } = spawnSync(program, [program === 'spin' ? '-V' : '--version']);
    if (error !== undefined) return `${program} is not installed: test/peers.sh installs it`;
  }
  return undefined;
}

const flags = ({ define = {} }: Check): string[] =>
  Object.entries(define).map(([name, value]) => `-D${name}${value === true ? '' : `=${value}`}`);

/** The configuration in one line. */
export const nameOf = (check: Check): string =>
  [check.model, ...flags(check), ...(check.formula === undefined ? [] : [check.formula])].join(' ');

/**
 * @param large whether it pays to compile for seconds, because the search takes longer
 * @throws Error if the model is no Promela, or spin did not explore all states
 */
export async function explore(check: Check, large = false): Promise<Exploration> {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-spin-'));
  try {
    const cwd = { cwd: folder, maxBuffer: 64 << 20 };
    await run('spin', [...flags(check), '-a', join(MODELS, `${check.model}.pml`)], cwd);
    const searches = check.formula === undefined ? ['-DSAFETY', '-DNOCLAIM'] : ['-DNFAIR=3'];
    await run(
      'cc',
      [large ? '-O2' : '-O0', '-w', '-DCOLLAPSE', '-DVECTORSZ=4096', ...searches, '-o', 'pan', 'pan.c'],
      cwd,
    );
    // NB: with `-f` no thread that can always go on waits for ever (weak fairness).
    const how = check.formula === undefined ? [] : ['-a', '-f', '-N', check.formula];
    const { stdout } = await run('./pan', ['-m1000000', ...how], cwd);
    return read(stdout);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function read(output: string): Exploration {
  const number = (pattern: RegExp): number => Number(pattern.exec(output)?.[1] ?? 0);
  if (/max search depth too small|Search not completed.*out of memory/s.test(output)) {
    throw new Error(`spin has not explored all states:\n${output}`);
  }
  if (!/errors: \d+/.test(output)) throw new Error(output);
  return {
    failure: /^pan:\d+: (.*?) \(at depth/m.exec(output)?.[1],
    states: number(/(\S+) states, stored/),
    depth: number(/depth reached (\d+)/),
    seconds: number(/elapsed time (\S+) seconds/),
    mebibytes: number(/(\S+)\s+total actual memory usage/),
  };
}
