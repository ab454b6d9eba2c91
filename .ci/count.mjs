/**
 * Prints what Vitest's JSON reports come to together: "N passed, N failed", and the skipped ones if there are any. Before
 * it a line for each test that failed, and for each file whose process ended before its tests did.
 * Its arguments are pairs: a run's exit status, and its report or a folder of reports.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';

const total = { passed: 0, failed: 0, skipped: 0 };

/** Results by file; none if there is no report: the build failed, or the runner died. */
function resultsOf(file) {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return text === '' ? [] : JSON.parse(text).testResults;
}

function count(testResults, ...states) {
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  return tests.filter(({ status }) => states.includes(status)).length;
}

/** A file that fails outside its tests (a syntax error, a broken hook) has no failed test. */
function broken(testResults) {
  return testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  ).length;
}

/** What went wrong, a line each: whoever reads only the end of a long output sees it. */
function* complaints(report) {
  for (const { name, assertionResults } of resultsOf(report)) {
    const where = `${basename(report, '.json')}: ${basename(name ?? 'no file')}`;
    for (const test of assertionResults) {
      const why = test.failureMessages?.[0]?.split('\n')[0] ?? '';
      if (test.status === 'failed') yield `${where}: ${test.fullName ?? test.title}: ${why}`.slice(0, 400);
    }
    const unfinished = assertionResults.filter((test) => test.status === 'pending').length;
    if (unfinished > 0) yield `${where}: ${unfinished} tests were not run to their end`;
  }
}

const args = process.argv.slice(2);
for (let i = 0; i < args.length; i += 2) {
  const [status, place] = args.slice(i, i + 2);
  const folder = existsSync(place) && statSync(place).isDirectory();
  const files = folder ? readdirSync(place).map((name) => join(place, name)) : [place];
  const testResults = files.flatMap(resultsOf);
  for (const file of files) for (const complaint of complaints(file)) console.log(complaint);
  const failed = count(testResults, 'failed') + broken(testResults);
  total.passed += count(testResults, 'passed');
  // The run may fail with every test passed: an error that nobody caught, or a report that is not there.
  total.failed += Math.max(failed, status === '0' ? 0 : 1);
  total.skipped += count(testResults, 'pending', 'skipped', 'todo', 'disabled');
}
const { passed, failed, skipped } = total;
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
