/** The C programs in this folder: each a peer that has no command of its own. Compiled when they are wanted. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { TwinpathError } from '../../src/errors.ts';
import { packageRoot } from '../../src/kernel/shim.ts';
import { missing } from './missing.ts';

/** Path of the program made of perf/peers/NAME.c. @throws Error when cc is missing; ERR_KERNEL when it fails */
export function peerProgram(name: string): string {
  const source = join(packageRoot, 'perf', 'peers', `${name}.c`);
  const folder = join(packageRoot, 'build', 'peers');
  const program = join(folder, name);
  if (modified(program) >= modified(source)) return program;
  mkdirSync(folder, { recursive: true });
  const half = `${program}.${process.pid}`;
  const { status, stderr, error } = spawnSync(
    'cc',
    ['-O3', '-march=native', '-Wall', '-Wextra', '-Werror', '-o', half, source],
    { encoding: 'utf8' },
  );
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') throw missing('cc, a C compiler,');
  if (status !== 0) {
    throw new TwinpathError('ERR_KERNEL', {
      device: source,
      detail: error?.message ?? stderr.trim().split('\n')[0] ?? 'cc failed',
      hint: 'The peers in C need a compiler that is called cc.',
    });
  }
  renameSync(half, program);
  return program;
}

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
