/** The host takes the VF and gives it back, meaning well: nobody may notice. */
import { describe, expect, it } from 'vitest';
import { expectNoDrops, expectUnharmed, passed, REDIRECT, Scene, TAP_MODE } from '../support/harness.ts';

describe.each([
  { standIn: 'veth', cycles: 10 },
  { standIn: 'bridge', cycles: 4 },
] as const)('a port over a $standIn as NetVSC', ({ standIn, cycles }) => {
  it(`loses, doubles and reorders nothing in ${cycles} graceful failovers under load`, async () => {
    const scene = await Scene.open({ lab: { standIn } });
    const traffic = await scene.drive();
    for (let cycle = 0; cycle < cycles; cycle++) {
      await scene.plug();
      await passed(traffic);
      await scene.whole();
      await scene.unplug();
      await passed(traffic);
      await scene.whole();
    }
    expect(scene.paths.synthetic).toMatchObject({ driver: 'tap', mode: TAP_MODE, redirect: REDIRECT });
    expectNoDrops(scene.port);
    const { paths } = scene.port.stats();
    for (const { rxPackets, txPackets } of [paths.vf, paths.synthetic]) {
      expect(rxPackets).toBeGreaterThan(cycles * 300);
      expect(txPackets).toBeGreaterThan(cycles * 300);
    }
    const ends = scene.port.failovers().filter(({ from, queue }) => from === 'vf' && queue === 0);
    expect(ends.map(({ reason }) => reason.replace('kick failed', 'link down'))).toEqual(
      Array.from({ length: cycles }, () => 'link down'),
    );
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});
