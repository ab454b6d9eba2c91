/**
 * Puts a run's results where people read them: the table of perf/README.md, the plots in perf/plots/, and the samples
 * behind both in perf/published.json. What lies between the two marks of a file is replaced, nothing else.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/kernel/shim.ts';
import { plots } from './plot/all.ts';
import { markdownTable, type Shown } from './report.ts';
import { inWords, type Results } from './results.ts';

const MARKS = ['<!-- perf: written by npm run perf -- --publish -->', '<!-- perf: end -->'] as const;

/** @returns the files it wrote */
export function publish(shown: readonly Shown[], results: Results): string[] {
  const { machine, began, runs } = results;
  const text = `${markdownTable(shown)}\n\n${inWords(machine)}; ${began.slice(0, 10)}, commit ${machine.commit}.`;
  const page = join('perf', 'README.md');
  const path = join(packageRoot, page);
  writeFileSync(path, between(readFileSync(path, 'utf8'), text));
  mkdirSync(join(packageRoot, 'perf', 'plots'), { recursive: true });
  const drawn = Object.entries(plots({ shown, runs })).map(([name, svg]) => {
    const file = join('perf', 'plots', `${name}.svg`);
    writeFileSync(join(packageRoot, file), svg);
    return file;
  });
  const samples = join('perf', 'published.json');
  writeFileSync(join(packageRoot, samples), `${JSON.stringify(results)}\n`);
  return [page, ...drawn, samples];
}

/** A page with what lies between its marks replaced. @throws Error of a page without them */
export function between(page: string, text: string): string {
  const [begin, end] = MARKS.map((mark) => page.indexOf(mark)) as [number, number];
  if (begin < 0 || end < begin) throw new Error(`there are no marks ${MARKS.join(' … ')} to write between`);
  return `${page.slice(0, begin + MARKS[0].length)}\n${text}\n${page.slice(end)}`;
}
