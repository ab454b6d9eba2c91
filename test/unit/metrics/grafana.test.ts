import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const read = (file: string): string => readFileSync(join(import.meta.dirname, '../../..', file), 'utf8');

it('the board for Grafana and the page name metrics that exist, and the page names all', () => {
  const known = [...read('src/metrics/port-metrics.ts').matchAll(/'(twinpath_\w+)'/g)].map(
    ([, name]) => name!,
  );
  expect(known.length).toBeGreaterThanOrEqual(10);
  const named = (text: string): string[] =>
    [...text.matchAll(/\btwinpath_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ''));
  const board = named(read('deploy/grafana/twinpath.json'));
  expect(board.length).toBeGreaterThanOrEqual(10);
  for (const name of board) expect(known).toContain(name);
  expect([...new Set(named(read('docs/metrics.md')))].sort()).toEqual([...known].sort());
});
