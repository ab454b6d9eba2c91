/** The VF vanishes, loses its carrier or flaps under load: what was in it is lost, and nothing else. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  expectUnharmed,
  monotonicNanos,
  ownedBy,
  passed,
  Scene,
  unexplained,
  until,
} from '../support/harness.ts';

describe.each(['veth', 'bridge'] as const)('a port over a %s as NetVSC', (standIn) => {
  it('survives surprise removals, and loses only packets under way to the VF', async () => {
    const scene = await Scene.open({ lab: { standIn } });
    const traffic = await scene.drive();
    const surprises: [number, number][] = [];
    for (let round = 0; round < 3; round++) {
      await scene.plug();
      await passed(traffic);
      const from = monotonicNanos();
      scene.nic.surprise();
      await sleep(20);
      await scene.nic.hostNotices();
      surprises.push([from, monotonicNanos()]);
      await ownedBy(scene.port, 'synthetic');
      await passed(traffic);
      await scene.whole();
    }
    const moves = scene.port.failovers().filter(({ from, to }) => from === 'vf' && to === 'synthetic');
    expect(moves).toHaveLength(3 * scene.lab.queues);
    for (const { reason } of moves) expect(['link down', 'link gone', 'kick failed']).toContain(reason);
    const [report] = await scene.finish();
    expect(report!.packets.lost).toBeGreaterThan(0);
    expect(unexplained(report!, surprises)).toEqual([]);
    expect(scene.errors).toEqual([]);
  });
});

describe('a VF', () => {
  it('that loses its carrier gives its queues to the synthetic path, and has them back with it', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    for (let round = 0; round < 2; round++) {
      await passed(traffic);
      await scene.nic.moveDataPath('synthetic');
      await passed(traffic);
      await scene.nic.setCarrier('vf', false);
      await ownedBy(scene.port, 'synthetic');
      await until('the journal', () => scene.port.failovers().at(-1)?.to === 'synthetic');
      expect(scene.port.failovers().at(-1)?.reason).toMatch(/carrier lost|kick failed/);
      await passed(traffic);
      await scene.nic.setCarrier('vf', true);
      await ownedBy(scene.port, 'vf');
      await scene.nic.moveDataPath('vf');
    }
    await passed(traffic);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it('that loses its carrier while it carries the traffic loses only packets sent until the host notices', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const from = monotonicNanos();
    await scene.nic.setCarrier('vf', false);
    await ownedBy(scene.port, 'synthetic');
    await scene.nic.hostNotices();
    const to = monotonicNanos();
    await passed(traffic);
    const [report] = await scene.finish();
    expect(unexplained(report!, [[from, to]])).toEqual([]);
  });

  it.each(['link', 'device'] as const)(
    'whose %s flaps faster than the port follows has the queues in the end',
    async (what) => {
      const scene = await Scene.open();
      const traffic = await scene.drive();
      await scene.plug();
      const flaps: [number, number][] = [];
      for (const times of [1, 2, 15]) {
        await passed(traffic, 300);
        const from = monotonicNanos();
        await scene.nic.flap(times, { what });
        await scene.settled();
        await ownedBy(scene.port, 'vf');
        await scene.nic.moveDataPath('vf');
        flaps.push([from, monotonicNanos()]);
        await scene.whole();
      }
      const { rxPackets } = scene.port.stats().paths.vf;
      await passed(traffic);
      expect(scene.port.stats().paths.vf.rxPackets).toBeGreaterThan(rxPackets + 300);
      const [report] = await scene.finish();
      expect(unexplained(report!, flaps)).toEqual([]);
      expect(scene.errors).toEqual([]);
    },
  );
});
