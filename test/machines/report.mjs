/** Reports like Vitest's, of tests that are not Vitest's: .ci/count.mjs adds up both. */
import { writeFileSync } from 'node:fs';

/** @param tests each `{ title, status, failureMessages }`, of which status is 'passed', 'failed' or 'skipped' */
export function writeReport(file, name, tests) {
  const status = tests.some((test) => test.status === 'failed') ? 'failed' : 'passed';
  writeFileSync(file, JSON.stringify({ testResults: [{ name, status, assertionResults: tests }] }));
}
