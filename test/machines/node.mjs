/**
 * Runs on other versions of Node what needs little time: the unit tests, the demo on the memory path, and the
 * system tests whose network is memory.
 *
 *     npm run test:node -- 26            one version, or several: 20 22 24 26
 *     node test/machines/node.mjs --reports DIR   leaves a JSON report of each run there, for .ci/count.mjs
 *
 * The newest release of each is installed from npm into build/node/, once: delete that folder for a newer one.
 * The project itself must be built, and is the same for all.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { writeReport } from './report.mjs';

/** Those that package.json's `engines` promises and that are maintained. */
const VERSIONS = ['20', '22', '24', '26'];
/** Ports on the memory network; the last file has two scenes in a lab as well, as root. */
const IN_MEMORY = [
  ...['system/memory-port', 'system/loop-port', 'system/verdicts'],
  ...['faults/ended-threads', 'faults/stuck', 'faults/workers'],
];
/** Nothing takes so long: the run hangs. */
const LIMIT_MILLIS = 30 * 60_000;

const root = resolve(import.meta.dirname, '../..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { reports: { type: 'string' } },
});
const unknown = positionals.filter((version) => !VERSIONS.includes(version));
if (unknown.length > 0) {
  console.error(`There is no Node ${unknown.join(', ')} to test on, but for ${VERSIONS.join(', ')}.`);
  process.exit(2);
}
const reports = values.reports && resolve(values.reports);
if (reports) mkdirSync(reports, { recursive: true });

/** Runs a program with `node` first in its path, so that what it starts is of that version too. */
function run(node, args) {
  const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`;
  const { status, signal, error } = spawnSync(node, args, {
    ...{ cwd: root, stdio: 'inherit', timeout: LIMIT_MILLIS, env: { ...process.env, PATH } },
  });
  if (status === null) console.error(`${args.join(' ')}: ${error?.message ?? signal}`);
  return status === 0;
}

/** What the binary says of itself, or undefined if it does not run. */
function versionOf(node) {
  const { status, stdout } = spawnSync(node, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/** The binary of that version. @throws if npm has none, or what it has does not run here */
function install(version) {
  const name = `node-${process.platform}-${process.arch}`;
  const folder = join(root, 'build', 'node', version);
  const node = join(folder, 'node_modules', name, 'bin', 'node');
  const fits = () => versionOf(node)?.startsWith(`v${version}.`);
  if (fits()) return node;
  rmSync(folder, { recursive: true, force: true }); // half an installation, or one for another machine
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const args = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--prefix', folder];
  const { status, error } = spawnSync('npm', [...args, `${name}@${version}`], { stdio: ['ignore', 2, 2] });
  if (status !== 0)
    throw new Error(`npm could not install ${name}@${version}${error ? `: ${error.message}` : ''}`);
  if (!fits()) throw new Error(`${node} is not Node ${version}: it says ${versionOf(node) ?? 'nothing'}`);
  return node;
}

/** Of something that is one test. */
function report(file, title, passed) {
  if (file) writeReport(file, title, [{ title, status: passed ? 'passed' : 'failed' }]);
}

/** Returns the names of the runs that failed. */
function test(version) {
  const node = install(version);
  const title = `Node ${versionOf(node)}`;
  const file = (what) => reports && join(reports, `node-${version}-${what}.json`);
  const vitest = (what, ...filters) => {
    console.log(`\n${title}: ${what} tests`);
    const json = reports ? ['--reporter=json', `--outputFile.json=${file(what)}`] : [];
    return run(node, [
      ...[join('node_modules', 'vitest', 'vitest.mjs'), 'run', ...filters],
      ...['--reporter=dot', ...json],
    ]);
  };
  const results = {
    unit: vitest('unit', '--project', 'unit'),
    memory: vitest('memory', ...IN_MEMORY.map((name) => join('test', `${name}.test.ts`))),
  };
  console.log(`\n${title}: the demo on the memory path`);
  results.demo = run(node, [join('dist', 'src', 'cli', 'main.js'), 'demo', '--memory', '--seconds', '4']);
  report(file('demo'), `the demo on the memory path, ${title}`, results.demo);
  return Object.keys(results).filter((what) => !results[what]);
}

const failures = [];
for (const version of positionals.length > 0 ? positionals : VERSIONS) {
  try {
    failures.push(...test(version).map((what) => `${what} on Node ${version}`));
  } catch (error) {
    console.error(error.message);
    failures.push(`Node ${version}`);
    report(reports && join(reports, `node-${version}.json`), error.message, false);
  }
}
console.log(failures.length === 0 ? '\nAll was well.' : `\nFailed: ${failures.join(', ')}.`);
process.exitCode = failures.length === 0 ? 0 : 1;
