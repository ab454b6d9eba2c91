/**
 * One run of one variant of one benchmark: the process that the runner starts for every sample.
 *
 *     node dist/perf/runner/variant.js BENCHMARK VARIANT SECONDS [quick]
 *
 * Prints lines of progress, and at the end the figures as one line of JSON. A failure goes to standard error, and the exit code
 * is 1.
 */
import { BENCHMARKS } from './benchmarks.ts';

const [name = '', variant = '', seconds = '1', quick] = process.argv.slice(2);
const run = BENCHMARKS.find((benchmark) => benchmark.name === name)?.variants[variant];
if (run === undefined) {
  process.stderr.write(`There is no benchmark ${name} with a variant ${variant}.\n`);
  process.exit(2);
}
try {
  const report = (text: string): boolean => process.stdout.write(`${text}\n`);
  const sample = await run({ seconds: Number(seconds), quick: quick === 'quick', report });
  for (const [figure, value] of Object.entries(sample)) {
    if (!Number.isFinite(value)) throw new Error(`${variant}.${figure} is ${value}`);
  }
  process.stdout.write(`${JSON.stringify(sample)}\n`, () => process.exit(0));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`, () => process.exit(1));
}
