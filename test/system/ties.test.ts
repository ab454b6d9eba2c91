/** The other ways to drive the tap and to tie it to the NetVSC fail over like the first. */
import { describe, expect, it } from 'vitest';
import { expectNoDrops, expectUnharmed, passed, Scene, TAP_MODE, TIE } from './harness.ts';
import { attachments } from './machine-state.ts';

describe.each([
  { options: { tap: 'read/write' }, mode: 'read/write', tie: TIE },
  { options: { tie: 'clsact' }, mode: TAP_MODE, tie: 'clsact filters' },
  {
    options: { tap: 'read/write', tie: 'clsact', mode: 'interrupt' },
    mode: 'read/write',
    tie: 'clsact filters',
  },
  { options: { mode: 'poll' }, mode: TAP_MODE, tie: TIE },
] as const)('a port opened with $options', ({ options, mode, tie }) => {
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
    expect(scene.paths.synthetic).toMatchObject({ driver: 'tap', mode, tie });
    const filters = attachments(scene.lab.guest).filter((line) => /clsact|filter/.test(line));
    expect(filters.length > 0).toBe(tie === 'clsact filters');
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });
});
