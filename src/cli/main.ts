#!/usr/bin/env node
/**
 * `twinpath`: loads the program and runs it.
 *
 * What keeps Node from doing that (a folder that is closed to this user, too few descriptors, Node's permission model)
 * is one sentence, as every other mistake of a person is. So the program is imported where it can be caught; what is
 * a mistake of ours still shows its stack.
 */
import { accessSync, constants, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TwinpathError } from '../errors.ts';
import { printable } from '../printable.ts';
import { startFailure } from '../start-failure.ts';

/** What the program is loaded from; a link may lead out of the package. */
const PARTS = ['dist', 'node_modules', 'node_modules/koffi', 'node_modules/piscina'];

try {
  const { runProgram } = await import('./program.ts');
  process.exitCode = await runProgram(process.argv.slice(2));
} catch (error) {
  const failure = closedPart() ?? startFailure(error);
  if (failure === undefined) throw error;
  const { message } = failure;
  process.stderr.write(`twinpath: ${printable(message)}\n`);
  if (process.argv.includes('--json')) {
    process.stdout.write(`${JSON.stringify({ error: { ...failure.toJSON(), message } })}\n`);
  }
  process.exitCode = 1;
}

/** The first part of the package that this user may not read; Node says of it that it is not there. */
function closedPart(): TwinpathError | undefined {
  const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
  for (const part of PARTS) {
    const path = join(root, part);
    try {
      accessSync(realpathSync(path), constants.R_OK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EACCES') continue;
      return new TwinpathError('ERR_START', {
        device: path,
        detail: 'this user may not read it, or may not enter a folder it is in (EACCES)',
        hint: 'Look at their modes: "namei -l" shows them.',
      });
    }
  }
  return undefined;
}
