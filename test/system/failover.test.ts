/** The host takes the VF and gives it back, meaning well: nobody may notice. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPorts, type Port } from '../../dist/src/port.js';
import {
  buildLab,
  drive,
  ECHO,
  expectNoDrops,
  expectUnharmed,
  owners,
  passed,
  REDIRECT,
  Scene,
  TAP_MODE,
} from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

describe.each([
  { standIn: 'veth', cycles: 4 },
  { standIn: 'bridge', cycles: 3 },
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

describe('a port with vf: false', () => {
  it('leaves the VF alone, and has what comes by it through a NetVSC that is its master', async () => {
    const lab = await buildLab({ standIn: 'bridge' });
    const ports = await openPorts({
      ...{ netns: lab.guest, queues: 2, handler: ECHO },
      handlerOptions: { address: lab.nic.guestAddress },
      ports: [{ netvsc: lab.nic.netvsc, force: true, vf: false }],
    });
    const [port] = ports as [Port];
    onTestFinished(() => port.close());
    const traffic = await drive(lab, lab.nic);
    await lab.nic.plug();
    await lab.nic.moveDataPath('vf');
    await passed(traffic);
    expect(linkIn(lab.guest, 'vf0')).toMatchObject({ xdpProgram: 0, carrier: true });
    expect(owners(port)).toEqual(['synthetic', 'synthetic']);
    expect(port.paths.vf).toBeUndefined();
    expect(port.stats().paths.vf.rxPackets).toBe(0);
    await lab.nic.unplug();
    await passed(traffic);
    expectUnharmed(await traffic.stop());
  });
});
