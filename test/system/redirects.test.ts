/** The other ways to drive the tap and to redirect it to the NetVSC fail over like the first. */
import { describe, expect, it } from 'vitest';
import { expectNoDrops, expectUnharmed, passed, REDIRECT, Scene, TAP_MODE } from '../support/harness.ts';
import { attachments } from '../support/machine-state.ts';

describe.each([
  { options: { redirect: 'clsact' }, mode: TAP_MODE, redirect: 'clsact filters' },
  {
    options: { tap: 'read/write', redirect: 'clsact', mode: 'interrupt' },
    mode: 'read/write',
    redirect: 'clsact filters',
  },
  { options: { mode: 'poll' }, mode: TAP_MODE, redirect: REDIRECT },
] as const)('a port opened with $options', ({ options, mode, redirect }) => {
  it('loses, doubles and reorders nothing in graceful failovers', async () => {
    const scene = await Scene.open({ port: options });
    const traffic = await scene.drive({ rate: 10_000 });
    for (let cycle = 0; cycle < 2; cycle++) {
      await scene.plug();
      await passed(traffic);
      await scene.unplug();
      await passed(traffic);
      await scene.whole();
    }
    expect(scene.paths.synthetic).toMatchObject({ driver: 'tap', mode, redirect });
    const filters = attachments(scene.lab.guest).filter((line) => /clsact|filter/.test(line));
    expect(filters.length > 0).toBe(redirect === 'clsact filters');
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});
