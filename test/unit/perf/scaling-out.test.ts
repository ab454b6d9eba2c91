/** The simulation behind docs/scaling-out.md, and its table there. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { consistent, modulo, Remembering, scramble } from '../../../perf/simulation/fronts.ts';
import { simulate, table } from '../../../perf/simulation/scaling-out.ts';

it('machines that share nothing lose no connection to each other with balance, and nearly all with tables of their own', async () => {
  const rows = await simulate({ machines: 4, backends: 8, connections: 2000 });
  for (const { event, best, balance, remembering } of rows) {
    if (best === 1) {
      expect([event, balance]).toEqual([event, 1]);
      expect(remembering.modulo).toBeLessThan(0.6);
    } else {
      // Maglev moves up to a few in a hundred more than it must.
      expect(balance).toBeGreaterThan(best - 0.05);
      expect(balance).toBeLessThan(best + 0.05);
    }
  }
});

it('consistent fronts move the flows of a machine that goes and no others', () => {
  const all = [0, 1, 2, 3, 4];
  const flows = Array.from({ length: 5000 }, (_, flow) => flow);
  for (const front of [consistent, new Remembering()]) {
    const before = flows.map((flow) => front.choose(flow, scramble(flow), all));
    const after = flows.map((flow) => front.choose(flow, scramble(flow), [0, 1, 3, 4]));
    const moved = flows.filter((flow) => before[flow] !== after[flow]);
    expect(moved).toEqual(flows.filter((flow) => before[flow] === 2));
    expect(moved.length).toBeGreaterThan(800);
    expect(moved.length).toBeLessThan(1200);
  }
  const [before, after] = [all, all.slice(1)].map((machines) =>
    flows.map((flow) => modulo.choose(flow, scramble(flow), machines)),
  );
  expect(flows.filter((flow) => before![flow] !== after![flow]).length).toBeGreaterThan(3500);
});

it('docs/scaling-out.md has what the simulation gives', async () => {
  const page = readFileSync(new URL('../../../docs/scaling-out.md', import.meta.url), 'utf8');
  const [, written] =
    /<!-- simulation: written by .* -->\n([\s\S]*)\n<!-- simulation: end -->/.exec(page) ?? [];
  expect(written).toBe(await table());
});
