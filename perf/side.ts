/**
 * One run of one side of one row: the process that run.ts starts for every figure.
 *
 *     node dist/perf/side.js ROW SIDE SECONDS [quick]
 *
 * Prints the figures as one line of JSON, the last on standard output. A failure goes to standard error, and
 * the exit code is 1. What a side says while it measures goes there too, behind a mark.
 */
import { loadRow } from './rows.ts';
import { SAYS } from './sampling.ts';

const [name = '', side = '', seconds = '1', quick] = process.argv.slice(2);
const row = await loadRow(name);
const run = row.sides[side];
if (run === undefined) {
  process.stderr.write(`The sides of ${name} are: ${Object.keys(row.sides).join(', ')}.\n`);
  process.exit(2);
}
try {
  const say = (text: string): boolean => process.stderr.write(`${SAYS}${text}\n`);
  const sample = await run({ seconds: Number(seconds), quick: quick === 'quick', say });
  for (const [figure, value] of Object.entries(sample)) {
    if (!Number.isFinite(value)) throw new Error(`${side}.${figure} is ${value}`);
  }
  process.stdout.write(`${JSON.stringify(sample)}\n`, () => process.exit(0));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`, () => process.exit(1));
}
