/** The closing line of the checks: what several reports of the runner come to together. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, expect, it, onTestFinished } from 'vitest';

const COUNT = fileURLToPath(new URL('../../../.ci/count.mjs', import.meta.url));
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'twinpath-count-'));
  mkdirSync(join(folder, 'others'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

/** A report of one file with tests of these states. */
function report(
  name: string,
  states: string[],
  status = states.includes('failed') ? 'failed' : 'passed',
): string {
  const file = join(folder, name);
  const assertionResults = states.map((state, i) => ({
    ...{ status: state, title: `test ${i}` },
    failureMessages: state === 'failed' ? ['Error: bad\n    at somewhere'] : [],
  }));
  writeFileSync(file, JSON.stringify({ testResults: [{ status, assertionResults }] }));
  return file;
}

/** Its last line: complaints may come before it. */
function count(...args: string[]): { line: string; code: number | null; said: string } {
  const { stdout, status } = spawnSync(process.execPath, [COUNT, ...args], { encoding: 'utf8' });
  return { line: stdout.trim().split('\n').at(-1)!, code: status, said: stdout };
}

it('count.mjs adds up single reports and the reports of a folder', () => {
  const own = report('own.json', ['passed', 'passed', 'skipped']);
  report('others/a.json', ['passed']);
  report('others/b.json', ['passed', 'passed', 'passed']);
  expect(count('0', own, '0', join(folder, 'others'))).toMatchObject({
    line: '6 passed, 0 failed, 1 skipped',
    code: 0,
  });
});

it('count.mjs counts failed tests, and files that failed outside their tests', () => {
  const own = report('own.json', ['passed', 'failed']);
  report('others/a.json', ['passed', 'failed', 'failed']);
  report('others/b.json', [], 'failed');
  expect(count('1', own, '1', join(folder, 'others')).line).toBe('2 passed, 4 failed');
});

it('count.mjs names failed tests, and files whose tests did not all run', () => {
  const own = report('own.json', ['passed', 'failed', 'pending']);
  const { said } = count('1', own);
  expect(said).toMatch(/^own: .*: test 1: Error: bad$/m);
  expect(said).toMatch(/^own: .*: 1 tests were not run to their end$/m);
});

it.each([
  ['passed every test', ['passed'], '2 passed, 1 failed'],
  ['left no report', undefined, '1 passed, 1 failed'],
] as const)('counts a run that failed and yet %s', (_, states, line) => {
  const own = report('own.json', ['passed']);
  if (states) report('others/a.json', [...states]);
  expect(count('0', own, '1', join(folder, 'others')).line).toBe(line);
});

it('count.mjs counts a runner without a report as a failure', () => {
  writeFileSync(join(folder, 'own.json'), '');
  expect(count('1', join(folder, 'own.json'), '1', join(folder, 'nowhere')).line).toBe('0 passed, 2 failed');
});
