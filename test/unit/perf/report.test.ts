import { describe, expect, it } from 'vitest';
import { type Benchmark, comparisons } from '../../../perf/runner/benchmark.ts';
import { BENCHMARKS } from '../../../perf/runner/benchmarks.ts';
import { benchmarkTable, between } from '../../../perf/runner/pages.ts';
import { figure, textTable } from '../../../perf/runner/report.ts';
import { lockMachine, type Results, writeResults } from '../../../perf/runner/results.ts';
import type { Line } from '../../../perf/runner/verdict.ts';

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
const benchmark: Benchmark = {
  ...{ name: 'tap', about: 'a tap alone', variants: {} },
  ...{ full: { runs: 1, seconds: 1 }, quick: { runs: 1, seconds: 1 } },
  comparisons: [{ name: 'tap', about: 'echo', ours: 'a.x', unit: 'Mpps' }],
};
const shown = [{ benchmark, lines: [line({}), missed, failed] }];

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
  });

  it('replaces what lies between its marks, and nothing else', () => {
    const page =
      'a\n<!-- perf benchmarks: written by npm run perf -- --publish -->\nold\n<!-- perf benchmarks: end -->\nold\n';
    expect(between(page, 'benchmarks', 'new')).toBe(page.replace('old', 'new'));
    expect(() => between(page, 'results', 'new')).toThrow(/no marks <!-- perf results/);
  });
});

describe('the results', () => {
  it('say so when they cannot be written', () => {
    const results = { began: '2026-01-02T03:04:05.678Z' } as Results;
    const full = () => writeResults(results, '/dev/null/results');
    expect(full).toThrow(expect.objectContaining({ code: 'ERR_KERNEL' }));
  });
});

describe('the benchmarks', () => {
  it('are listed with what they measure, and how often', () => {
    const runs = { ...benchmark, variants: { a: () => ({}), b: () => ({}) }, full: { runs: 3, seconds: 2 } };
    expect(benchmarkTable([runs])).toContain('| `tap` | a tap alone | 3 × a, b | 2 |');
    expect(benchmarkTable([{ ...runs, onRequest: true }])).toContain('a tap alone (only when it is named)');
  });

  it('have their comparisons from a table', () => {
    const table = `
      tap       | a.x / b.y | Gbit/s | ≥ 1.5 | read; peer: the kernel
      tap:alone | a.x       | ms     |       | the same
    `;
    expect(comparisons(table)).toEqual([
      {
        name: 'tap',
        ours: 'a.x',
        peer: 'b.y',
        unit: 'Gbit/s',
        goal: '≥ 1.5',
        about: 'read; peer: the kernel',
      },
      { name: 'tap:alone', ours: 'a.x', peer: undefined, unit: 'ms', goal: undefined, about: 'the same' },
    ]);
    const [both] = comparisons('tcp | a.x / b.y | Gbit/s | ≥ 0.6, best ≥ 0.8 | received');
    expect(both).toMatchObject({ goal: '≥ 0.6', best: '≥ 0.8' });
  });

  it('repeat neighbouring lines of a table together for each name of a value', () => {
    const table = `
      tcp:{mode}-{way} | {mode}.{way}  | Gbit/s | | {WAY}, {mode}
      tcp:{mode}-stall | {mode}.stall | ms     | | {Mode}
      tcp:all          | all           | ms     | | once
    `;
    const lines = comparisons(table, { mode: { poll: '', idle: '' }, way: { in: 'received' } });
    expect(lines.map(({ name, ours, about }) => `${name} ${ours} ${about}`)).toEqual([
      'tcp poll.in received, poll',
      'tcp:poll-stall poll.stall Poll',
      'tcp:idle-in idle.in received, idle',
      'tcp:idle-stall idle.stall Idle',
      'tcp:all all once',
    ]);
  });

  it('have names of their own', () => {
    const names = BENCHMARKS.flatMap((one) => one.comparisons.map(({ name }) => name));
    expect(new Set(names).size).toBe(names.length);
  });

  it.each(BENCHMARKS)(
    '$name compares figures of its variants, under names that begin with its own',
    ({ name, variants, comparisons }) => {
      expect(comparisons[0]?.name).toBe(name);
      for (const one of comparisons) {
        expect(one.name.split(':')[0]).toBe(name);
        expect(one.goal ?? '≥ 1').toMatch(/^[≥≤] \d+(?:\.\d+)?$/);
        if (one.best !== undefined)
          expect(one.best).toMatch(new RegExp(`^${one.goal![0]} \\d+(?:\\.\\d+)?$`));
        expect(one.about).not.toBe('');
        for (const path of [one.ours, one.peer])
          if (path) expect(Object.keys(variants)).toContain(path.split('.')[0]);
      }
    },
  );
});

describe('the machine', () => {
  it('is measured by one at a time', async () => {
    const name = `\0twinpath-perf-test-${process.pid}`;
    const held = await lockMachine(name);
    await expect(lockMachine(name)).rejects.toMatchObject({ code: 'ERR_DEVICE_BUSY' });
    await new Promise((resolve) => held.close(resolve));
    (await lockMachine(name)).close();
  });
});
