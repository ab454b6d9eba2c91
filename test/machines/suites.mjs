/**
 * The project's own demo and tests of kernel devices, in the guest: what its kernel makes of them. The card plays no part.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
/** Written where the guest can: the project itself is read-only there. */
const CACHE = '/tmp/vitest';

/** Runs a program of Node to its end: its status, and what it said. */
function run(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: PROJECT,
      env: { ...process.env, CI: '1', NO_COLOR: '1' },
    });
    let out = '';
    let said = '';
    child.stdout.on('data', (data) => {
      out += data;
    });
    child.stderr.on('data', (data) => {
      said = (said + data).slice(-2000);
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ status: code ?? signal, out, said }));
  });
}

async function demo() {
  const { status, out, said } = await run([
    'dist/src/cli/main.js',
    'demo',
    '--seconds',
    '30',
    '--rate',
    '500',
    '--json',
  ]);
  const { packets } = JSON.parse(out || '{}');
  const failures = status === 0 ? [] : [`it ended with ${status}: ${out.slice(0, 500)} ${said}`];
  return { ...packets, doubled: packets?.duplicated, failures };
}

/** A file of tests; each that fails is named. The whole report is beside the machine's console. */
const file = (project, name) => async () => {
  rmSync(CACHE, { recursive: true, force: true });
  mkdirSync(CACHE, { recursive: true });
  const report = `/results/${name}.json`;
  const { status, said } = await run([
    ...[
      'node_modules/vitest/vitest.mjs',
      'run',
      '--configLoader',
      'runner',
      '--project',
      project,
      `test/${project}/${name}.test.ts`,
    ],
    // Its limits are for a machine that is not emulated.
    ...['--testTimeout', '1200000', '--hookTimeout', '300000'],
    ...['--reporter', 'json', '--outputFile', report],
  ]);
  if (!existsSync(report)) return { failures: [`it ended with ${status}: ${said}`] };
  const { testResults, numPassedTests } = JSON.parse(readFileSync(report, 'utf8'));
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = tests.filter((test) => test.status === 'failed');
  const failures = failed.map(
    ({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split('\n')[0]}`,
  );
  if (status !== 0 && failures.length === 0) failures.push(`it ended with ${status}: ${said}`);
  const skipped = tests.filter((test) => test.status === 'skipped' || test.status === 'pending').length;
  return { failures, notes: [`${numPassedTests} passed, ${failed.length} failed, ${skipped} skipped`] };
};

export const SUITES = {
  'test:demo': demo,
  'test:bpf': file('system', 'bpf'),
  'test:redirects': file('system', 'redirects'),
  'test:failover': file('system', 'failover'),
  'test:return': file('faults', 'return'),
  'test:surprise': file('faults', 'surprise'),
};
