import { parseHTML } from 'linkedom';
import { describe, expect, it } from 'vitest';
import { holdMachine } from '../../perf/machine-lock.ts';
import { goalsPlot } from '../../perf/plot/goals.ts';
import { between } from '../../perf/publish.ts';
import { figure, markdownTable, textTable } from '../../perf/report.ts';
import { type Results, writeResults } from '../../perf/results.ts';
import type { Row } from '../../perf/row.ts';
import { loadRow, ROWS } from '../../perf/rows.ts';
import type { Line } from '../../perf/verdict.ts';

const line = (more: Partial<Line>): Line => ({
  ...{ name: 'tap', ours: 1.5, peer: 0.5, unit: 'Mpps', ratio: 3, goal: '≥ 1.5', met: true, runs: 5 },
  ...{ spread: 0.04, ...more },
});
const missed = line({ name: 'ring', ratio: 0.5, goal: '≥ 1', met: false });
const failed = line({
  name: 'veth',
  ours: null,
  peer: null,
  ratio: null,
  met: null,
  note: 'failed: dpdk: gone',
});
const row: Row = {
  ...{ name: 'tap', about: '', sides: {} },
  ...{ full: { runs: 1, seconds: 1 }, quick: { runs: 1, seconds: 1 } },
  comparisons: [{ name: 'tap', about: 'echo', ours: 'a.x', unit: 'Mpps', better: 'higher' }],
};
const shown = [{ row, lines: [line({}), missed, failed] }];

describe('the report', () => {
  it('shows three digits that count', () => {
    expect([0.01234, 1.234, 12.34, 1234.5, 0, 7].map(figure)).toEqual([
      '0.012',
      '1.23',
      '12.3',
      '1235',
      '0',
      '7',
    ]);
  });

  it('tells a result, a missed goal and a failure apart', () => {
    const text = textTable(shown).split('\n');
    expect(text.find((one) => one.startsWith('tap'))).toMatch(/1\.50 +0\.500 +Mpps +3 +≥ 1\.5 +met +5 +4 %/);
    expect(text.find((one) => one.startsWith('ring'))).toMatch(/MISSED/);
    expect(text.find((one) => one.startsWith('veth '))).toMatch(/no result/);
    expect(text.at(-1)).toBe('veth: failed: dpdk: gone');
    expect(markdownTable(shown)).toContain(
      '| `tap`: echo | 1.50 Mpps | 0.500 Mpps | 3 | ≥ 1.5 met | 5, 4 % |',
    );
    expect(markdownTable(shown)).toContain('failed: dpdk: gone');
  });

  it('replaces what lies between its marks, and nothing else', () => {
    const page = 'a\n<!-- perf: written by npm run perf -- --publish -->\nold\n<!-- perf: end -->\nb\n';
    expect(between(page, 'new')).toBe(page.replace('old', 'new'));
    expect(() => between('no marks', 'new')).toThrow(/no marks/);
  });

  it('draws a dot for each ratio with a goal, right of 1 if it is met', () => {
    const { document } = parseHTML(
      goalsPlot([line({}), missed, failed, line({ name: 'x', goal: null, met: null })]),
    );
    const dots = [...document.querySelectorAll('circle')].map((dot) => Number(dot.getAttribute('cx')));
    expect(dots).toHaveLength(2);
    const [good, bad] = dots as [number, number];
    const goal = Number(document.querySelector('[aria-label=rule] line')?.getAttribute('x1'));
    expect(good).toBeGreaterThan(goal);
    expect(bad).toBeLessThan(goal);
  });
});

describe('the results', () => {
  it('say so when they cannot be written', () => {
    const results = { began: '2026-01-02T03:04:05.678Z' } as Results;
    const full = () => writeResults(results, '/dev/null/results');
    expect(full).toThrow(expect.objectContaining({ code: 'ERR_KERNEL' }));
  });
});

describe('the rows', () => {
  it.each(ROWS)('%s compares figures of sides it has, under names that begin with its own', async (name) => {
    const { sides, comparisons, ...found } = await loadRow(name);
    expect(found.name).toBe(name);
    expect(comparisons[0]?.name).toBe(name);
    for (const one of comparisons) {
      expect(one.name.split(':')[0]).toBe(name);
      for (const path of [one.ours, one.peer])
        if (path) expect(Object.keys(sides)).toContain(path.split('.')[0]);
    }
  });
});

describe('the machine', () => {
  it('is measured by one at a time', async () => {
    const name = `\0twinpath-perf-test-${process.pid}`;
    const held = await holdMachine(name);
    await expect(holdMachine(name)).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
    await new Promise((resolve) => held.close(resolve));
    (await holdMachine(name)).close();
  });
});
