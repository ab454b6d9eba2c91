/**
 * Puts a run's results where people read them: the tables of README.md and perf/README.md, and the plots in
 * perf/plots/. What lies between the two marks of a file is replaced, nothing else.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/kernel/shim.ts';
import { plots } from './plot/all.ts';
import { markdownTable, type Shown } from './report.ts';
import { inWords, type Machine } from './results.ts';
import type { Run } from './verdict.ts';

export interface Published {
  readonly shown: readonly Shown[];
  readonly runs: Readonly<Record<string, readonly Run[]>>;
  readonly machine: Machine;
  /** ISO 8601. */
  readonly began: string;
}

const MARKS = ['<!-- perf: written by npm run perf -- --publish -->', '<!-- perf: end -->'] as const;

/** @returns the files it wrote */
export function publish(published: Published): string[] {
  const { shown, machine, began } = published;
  const text = `${markdownTable(shown)}\n\n${inWords(machine)}; ${began.slice(0, 10)}, commit ${machine.commit}.`;
  const page = join('perf', 'README.md');
  const path = join(packageRoot, page);
  writeFileSync(path, between(readFileSync(path, 'utf8'), text));
  mkdirSync(join(packageRoot, 'perf', 'plots'), { recursive: true });
  const drawn = Object.entries(plots(published)).map(([name, svg]) => {
    const file = join('perf', 'plots', `${name}.svg`);
    writeFileSync(join(packageRoot, file), svg);
    return file;
  });
  return [page, ...drawn];
}

/** A page with what lies between its marks replaced. @throws Error of a page without them */
export function between(page: string, text: string): string {
  const [begin, end] = MARKS.map((mark) => page.indexOf(mark)) as [number, number];
  if (begin < 0 || end < begin) throw new Error(`there are no marks ${MARKS.join(' … ')} to write between`);
  return `${page.slice(0, begin + MARKS[0].length)}\n${text}\n${page.slice(end)}`;
}
