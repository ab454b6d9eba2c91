#!/usr/bin/env node
/**
 * `twinpath`: loads the program and runs it.
 *
 * Node may be unable to load it: the user may not read a folder, the process may have too few descriptors, Node's permission
 * model may forbid it. The user then gets one sentence, as for every other error that the user can correct. So the program
 * is imported inside a try block. Other errors show their stack.
 */
import { accessSync, constants, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TwinpathError } from '../errors.ts';
import { printable } from '../printable.ts';
import { startFailure } from '../start-failure.ts';

/** From where the program is loaded; a link may point out of the package. */
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

/** The first part of the package that this user may not read. Node reports it as missing. */
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
