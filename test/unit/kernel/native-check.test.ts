import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const native = fileURLToPath(new URL('../../../native', import.meta.url));
const hasTidy = spawnSync('clang-tidy', ['--version']).status === 0;

// gcc's warnings and its analyser run with `npm run lint`, which CI runs before test/peers.sh installs clang-tidy.
test('clang-tidy finds nothing in any build of the shim', ({ skip }) => {
  if (!hasTidy) skip('clang-tidy is not installed: test/peers.sh installs it');
  const { status, stdout } = spawnSync('make', ['-s', '-C', native, 'tidy'], { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' });
});
