import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Benchmark, comparisons, type Sample } from '../../../perf/runner/benchmark.ts';
import { BENCHMARKS } from '../../../perf/runner/benchmarks.ts';
import { headlines, publish, resultTable, rowsOf } from '../../../perf/runner/pages.ts';
import { goalsPlot, plots } from '../../../perf/runner/plots.ts';
import { fileOf, keep, kindName, publishedKinds, standing } from '../../../perf/runner/published.ts';
import { type Results, readResults } from '../../../perf/runner/results.ts';
import type { Run } from '../../../perf/runner/verdict.ts';

const benchmark = (name: string, table: string): Benchmark => ({
  ...{ name, about: `a ${name} alone`, variants: { a: () => ({}), b: () => ({}) } },
  ...{ full: { runs: 1, seconds: 1 }, quick: { runs: 1, seconds: 1 } },
  comparisons: comparisons(table),
});
const TAP = benchmark(
  'tap',
  `tap      | a.x / b.x | Mpps | ≥ 2               | echo
   tap:back | a.y / b.y | Mpps | ≥ 0.6, best ≥ 0.8 | back
   tap:new  | a.z / b.z | ms   | ≤ 1               | waited`,
);
const RING = benchmark('ring', 'ring | a.x | ns | ≤ 5 | a step');
const BOTH = [TAP, RING];

const AMD = '2 × AMD EPYC';
const INTEL = '2 × Intel(R) Xeon(R) Processor @ 2.80GHz';

/** One turn of both variants. */
const turn = (ours: Sample, peer: Sample): Run[] => [
  { variant: 'a', turn: 0, sample: ours },
  { variant: 'b', turn: 0, sample: peer },
];
const failed: Run[] = ['a', 'b'].map((variant) => ({ variant, turn: 0, failure: 'gone' }));

const results = (cpus: string, commit: string, runs: Record<string, Run[]>, day = 1): Results => ({
  ...{ began: `2026-01-0${day}T00:00:00.000Z`, seconds: 1, quick: false, rows: [], runs },
  machine: {
    ...{ cpus, memoryGiB: 4, kernel: '6.18', node: 'v20', v8: '11' },
    ...{ commit, dpdk: '', iperf3: '' },
  },
});

const fast = { tap: turn({ x: 6, y: 9 }, { x: 2, y: 10 }), ring: turn({ x: 4 }, { x: 4 }) };
const slow = { tap: turn({ x: 3, y: 7 }, { x: 2, y: 10 }), ring: turn({ x: 4.5 }, { x: 4 }) };

describe('what is published', () => {
  let root: string;
  const unchanged = (): boolean => false;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'twinpath-published-'));
  });
  afterEach(() => rmSync(root, { recursive: true }));

  const kept = (now: Results, changedSince: (commit: string) => boolean = unchanged) =>
    keep(now, BOTH, { root, changedSince });

  it('is kept by kind of processor, without its clock and its number of cores', () => {
    const names = {
      [AMD]: 'AMD EPYC',
      [INTEL]: 'Intel Xeon',
      '8 × Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz': 'Intel Xeon Platinum 8370C',
      '64 × AMD EPYC 7763 64-Core Processor': 'AMD EPYC 7763',
      '4 × unknown': 'unknown',
      '4 × ': 'unknown',
    };
    for (const [cpus, name] of Object.entries(names)) expect(kindName(cpus)).toBe(name);
    expect(fileOf('Intel Xeon Platinum 8370C')).toBe('perf/published/intel-xeon-platinum-8370c.json');
  });

  it('keeps another kind byte by byte', () => {
    kept(results(AMD, 'aaa', fast));
    const before = readFileSync(join(root, fileOf('AMD EPYC')));
    expect(kept(results(INTEL, 'bbb', slow)).kinds.map(({ name }) => name)).toEqual([
      'AMD EPYC',
      'Intel Xeon',
    ]);
    expect(readFileSync(join(root, fileOf('AMD EPYC')))).toEqual(before);
  });

  it('replaces a benchmark that was measured again, and keeps the others with their commit', () => {
    kept(results(AMD, 'aaa', fast));
    const { kinds } = kept(results(AMD, 'bbb', { tap: slow.tap }, 2), (commit) => commit === 'aaa');
    const [{ published, lines, older }] = kinds as [(typeof kinds)[number]];
    expect(lines.get('tap')?.ratio).toBe(1.5);
    expect(lines.get('ring')?.ours).toBe(4);
    expect([...older]).toEqual(['ring']);
    expect(published.measured).toEqual({
      tap: { began: '2026-01-02T00:00:00.000Z', commit: 'bbb' },
      ring: { began: '2026-01-01T00:00:00.000Z', commit: 'aaa' },
    });
    const text = resultTable(rowsOf(kinds, BOTH), kinds);
    expect(text).toContain('| `ring`: a step | 4 ns |  |  | ≤ 5 met | 1, older |');
    expect(text).toContain('2026-01-02, commit bbb. `ring`: 2026-01-01, commit aaa.');
    expect(text.endsWith('Older: measured before the newest change of the code.')).toBe(true);
  });

  it('keeps a result rather than a failure', () => {
    kept(results(AMD, 'aaa', fast));
    const [kind] = kept(results(AMD, 'bbb', { tap: failed, ring: slow.ring }, 2)).kinds;
    expect(kind!.lines.get('tap')?.ratio).toBe(3);
    expect(kind!.lines.get('ring')?.ours).toBe(4.5);
  });

  it('can be judged again, also by goals that are newer', () => {
    kept(results(AMD, 'aaa', fast));
    const again = readResults(join(root, fileOf('AMD EPYC')));
    expect(again.rows.map(({ name }) => name)).toEqual(['tap', 'tap:back', 'ring']);
    const harder = [benchmark('tap', 'tap | a.x / b.x | Mpps | ≥ 4 | echo')];
    const [kind] = publishedKinds(harder, { root, changedSince: unchanged });
    expect(kind!.lines.get('tap')).toMatchObject({ ratio: 3, met: false });
  });

  it('is judged by the kind that is worse, and by the better where there is a goal for it', () => {
    kept(results(AMD, 'aaa', fast));
    const one = publishedKinds(BOTH, { root, changedSince: unchanged });
    const { kinds } = kept(results(INTEL, 'bbb', slow));
    const [echo, back, waited] = TAP.comparisons;
    expect(standing(echo!, one)).toMatchObject({ worse: 0, met: true });
    expect(standing(echo!, kinds)).toMatchObject({ worse: 1, met: false, bestMet: null });
    expect(standing(back!, one)).toMatchObject({ met: true, bestMet: true });
    expect(standing(back!, kinds)).toMatchObject({ worse: 1, met: true, bestMet: true });
    expect(standing(back!, kinds.slice(1))).toMatchObject({ met: false, bestMet: false });
    expect(standing(waited!, kinds)).toMatchObject({ lines: [undefined, undefined], met: null });
  });

  it('is a table with a column for each kind, and the one that is worse', () => {
    kept(results(AMD, 'aaa', { tap: fast.tap }));
    const { kinds } = kept(results(INTEL, 'bbb', slow));
    const lines = resultTable(rowsOf(kinds, BOTH), kinds).split('\n');
    expect(lines).toEqual([
      '| measure | AMD EPYC | Intel Xeon | goal | worse |',
      '| --- | ---: | ---: | --- | --- |',
      '| `tap`: echo | 6 ÷ 2 Mpps = 3 (1) | 3 ÷ 2 Mpps = 1.50 (1) | ≥ 2 **missed** | Intel Xeon |',
      '| `tap:back`: back | 9 ÷ 10 Mpps = 0.900 (1) | 7 ÷ 10 Mpps = 0.700 (1) | ≥ 0.6, on the better ≥ 0.8 met | Intel Xeon |',
      '| `tap:new`: waited | not measured yet | not measured yet | ≤ 1 |  |',
      '| `ring`: a step | not measured yet | 4.50 ns (1) | ≤ 5 met |  |',
      '',
      `AMD EPYC: ${AMD}, 4 GiB, Linux 6.18, Node v20; 2026-01-01, commit aaa.  `,
      `Intel Xeon: ${INTEL}, 4 GiB, Linux 6.18, Node v20; 2026-01-01, commit bbb.`,
    ]);
  });

  it('is a table with a column for each figure while there is one kind', () => {
    const { kinds } = kept(results(AMD, 'aaa', { tap: fast.tap }));
    expect(resultTable(rowsOf(kinds, BOTH), kinds).split('\n')).toEqual([
      '| measure | ours | peer | ratio | goal | runs, spread |',
      '| --- | ---: | ---: | ---: | --- | --- |',
      '| `tap`: echo | 6 Mpps | 2 Mpps | 3 | ≥ 2 met | 1 |',
      '| `tap:back`: back | 9 Mpps | 10 Mpps | 0.900 | ≥ 0.6, on the better ≥ 0.8 met | 1 |',
      '| `tap:new`: waited |  |  |  | ≤ 1 | not measured yet |',
      '',
      `${AMD}, 4 GiB, Linux 6.18, Node v20; 2026-01-01, commit aaa.`,
    ]);
  });

  it('says why there is no result', () => {
    const { kinds } = kept(results(AMD, 'aaa', { tap: failed }));
    const text = resultTable(rowsOf(kinds, BOTH), kinds);
    expect(text).toContain('| `tap`: echo |  |  |  | ≥ 2 | failed: a: gone |');
  });

  it('is the first line of each benchmark and the missed goals, in short', () => {
    const { kinds } = kept(results(INTEL, 'bbb', slow));
    const short = headlines(rowsOf(kinds, BOTH)).map(({ comparison }) => comparison.name);
    expect(short).toEqual(['tap', 'tap:back', 'ring']);
  });

  it('is drawn: a dot for each ratio with a goal, right of 1 if it is met, and filled if it is judged', () => {
    kept(results(AMD, 'aaa', fast));
    const drawn = (kinds: ReturnType<typeof publishedKinds>) => {
      const { document } = parseHTML(goalsPlot(kinds, BOTH));
      const goal = Number(document.querySelector('[aria-label=rule] line')?.getAttribute('x1'));
      const dots = [...document.querySelectorAll('[aria-label=dot] > *')].map((dot) => {
        const at = dot.getAttribute('cx') ?? /translate\(([\d.]+)/.exec(dot.getAttribute('transform')!)![1];
        return [Number(at) >= goal, dot.getAttribute('fill') !== null];
      });
      return { dots, words: document.documentElement.textContent };
    };
    const one = drawn(publishedKinds(BOTH, { root, changedSince: unchanged }));
    const FILLED = [true, true];
    expect(one.dots).toEqual([FILLED, FILLED]);
    expect(one.words).not.toContain('AMD');
    const both = drawn(kept(results(INTEL, 'bbb', slow)).kinds);
    expect(both.words).toContain('● AMD EPYC   ■ Intel Xeon');
    // AMD's are not judged, and of Intel's the first misses.
    expect(both.dots).toEqual([[true, false], [true, false], [false, true], FILLED]);
  });

  it('goes into the pages and plots that there are', () => {
    const marks = (part: string) =>
      `<!-- perf ${part}: written by npm run perf -- --publish -->\nold\n<!-- perf ${part}: end -->\n`;
    mkdirSync(join(root, 'perf'));
    writeFileSync(join(root, 'perf/README.md'), marks('benchmarks') + marks('results'));
    const files = publish(results(AMD, 'aaa', fast), BOTH, { root, changedSince: unchanged });
    expect(files).toEqual(['perf/published/amd-epyc.json', 'perf/README.md', 'perf/plots/goals.svg']);
    const page = readFileSync(join(root, 'perf/README.md'), 'utf8');
    expect(page).toContain('| `tap`: echo | 6 Mpps |');
    expect(page).toContain('| `ring` | a ring alone | 1 × a, b | 1 |');
    expect(page).not.toContain('old');
  });

  it('in this repository is read and drawn, also with a second kind beside it', () => {
    const kinds = publishedKinds(BENCHMARKS, { changedSince: unchanged });
    expect(kinds.length).toBeGreaterThan(0);
    const two = [...kinds, { ...kinds[0]!, name: 'another' }];
    for (const shown of [kinds, two]) {
      expect(Object.keys(plots(shown, BENCHMARKS))).toEqual(['goals', 'failover', 'scaling']);
      const rows = rowsOf(shown, BENCHMARKS);
      expect(rows.every(({ lines }) => lines.length === shown.length)).toBe(true);
      expect(rows.some(({ met }) => met)).toBe(true);
    }
  });
});
