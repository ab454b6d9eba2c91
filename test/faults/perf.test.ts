/** `npm run perf` measures: alone on the machine, as these tests run. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Line } from '../../perf/runner/verdict.ts';
import { Run } from '../support/process.ts';

const program = fileURLToPath(new URL('../../dist/perf/run.js', import.meta.url));

describe('npm run perf', () => {
  it('measures one benchmark, and prints one JSON object and nothing else', async () => {
    const words = ['--only', 'garbage', '--quick', '--json'];
    const { code, stdout, stderr } = await new Run([process.execPath, program, ...words]).outcome;
    expect([0, 1], stderr).toContain(code); // 1: too noisy here, which it says
    const { rows } = JSON.parse(stdout) as { rows: Line[] };
    expect(rows.map(({ name }) => name.split(':')[0])).toEqual(rows.map(() => 'garbage'));
    const none = { ours: 0, peer: null, ratio: null, unit: 'collections', goal: '≤ 0', met: true };
    const some = { ours: expect.any(Number), runs: expect.any(Number) };
    // A neighbour may take the CPUs away in every run: that alone may leave a benchmark without a result.
    const noisy = { ours: null, peer: null, ratio: null, met: null, note: expect.stringContaining('noisy') };
    for (const row of rows) {
      const measured = row.name === 'garbage:collections' ? none : some;
      expect(row).toMatchObject(row.note === undefined ? measured : noisy);
    }
    expect(rows.map(({ name }) => name)).toContain('garbage:collections');
    if (code === 0) for (const row of rows) expect(row).not.toHaveProperty('note');
  });
});
