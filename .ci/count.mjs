/** Prints what Vitest's JSON report comes to: "N passed, N failed", and the skipped ones if there are any. */
import { readFileSync } from 'node:fs';

const [file, status] = process.argv.slice(2);
const text = readFileSync(file, 'utf8');
const { testResults = [] } = text === '' ? {} : JSON.parse(text); // no report: the build failed, or the runner died
const count = (...states) =>
  testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => states.includes(status)).length;

const passed = count('passed');
// A file that fails outside its tests (a syntax error, a broken hook) has no failed test; neither has an
// error that nobody caught.
const broken = testResults.filter(
  ({ status, assertionResults }) =>
    status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
).length;
const failed = Math.max(count('failed') + broken, status === '0' ? 0 : 1);
const skipped = count('pending', 'skipped', 'todo', 'disabled');
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
