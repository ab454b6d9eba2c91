/** The configuration of a port: on both paths alike, whichever of them is there, and gone with the port. */
import { execFileSync } from 'node:child_process';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { configured, MULTICAST, NOTHING, UNICAST } from '../support/configured.ts';
import { buildLab, expectUnharmed, ownedBy, passed, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { linkIn } from '../support/machine-state.ts';
import { limitVf } from '../support/vf-limit.ts';

const OWN = '02:15:5d:00:00:09';

describe('a port', () => {
  it('is configured on both paths, keeps its packets meanwhile, and leaves the devices as it found them', async () => {
    const scene = await Scene.open();
    const { lab, port, nic } = scene;
    const original = configured(lab, 'eth0');
    expect(original).toEqual({ mtu: 1500, mac: nic.mac, ...NOTHING });
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const wanted = {
      mtu: 1400,
      unicast: UNICAST,
      multicast: MULTICAST,
      promiscuous: true,
      allMulticast: true,
    };
    const configuration = await port.configure(wanted);
    expect(configuration).toMatchObject({ generation: 1, mac: null, macFilter: false, rules: [], ...wanted });
    expect(port.configuration).toEqual(configuration);
    for (const device of ['eth0', 'vf0']) {
      expect(configured(lab, device), device).toEqual({ mac: nic.mac, ...wanted });
    }
    await ownedBy(port, 'vf');
    await passed(traffic);
    await port.configure({ unicast: UNICAST.slice(1), promiscuous: false });
    for (const device of ['eth0', 'vf0']) {
      expect(configured(lab, device)).toMatchObject({
        unicast: UNICAST.slice(1),
        promiscuous: false,
        mtu: 1400,
      });
    }
    expect(port.failovers().filter(({ reason }) => reason === 'configured')).toHaveLength(lab.queues);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
    for (const device of ['eth0', 'vf0']) expect(configured(lab, device)).toEqual(original);
  });

  it('gives its VF the same after each return, whatever was asked meanwhile', async () => {
    const scene = await Scene.open({ port: { frameSize: 4096 } });
    const { lab, port, nic } = scene;
    const change = fc.record(
      {
        mtu: fc.oneof(fc.constant(null), fc.integer({ min: 1280, max: 2000 })),
        unicast: fc.subarray(UNICAST),
        multicast: fc.subarray(MULTICAST),
        promiscuous: fc.boolean(),
        allMulticast: fc.boolean(),
      },
      { requiredKeys: [] },
    );
    const step = fc.oneof(
      { weight: 4, arbitrary: change },
      { weight: 1, arbitrary: fc.constant('replug' as const) },
    );
    const steps = fc.sample(step, { numRuns: 20 }); // faults/orders.test.ts does it for 150 returns
    const model = { mtu: null as number | null, mac: null, ...NOTHING };
    const check = (device: string, context: unknown): void => {
      const expected = { ...model, mtu: model.mtu ?? 1500, mac: nic.mac };
      expect(configured(lab, device), `${device} after ${JSON.stringify(context)}`).toEqual(expected);
    };
    await scene.plug();
    for (const [index, one] of steps.entries()) {
      if (one === 'replug') {
        if (nic.vf !== undefined) await scene.unplug();
        else await scene.plug(index % 2 === 0 ? 'vf0' : 'enP1s2');
      } else {
        Object.assign(model, one);
        await port.configure(one);
      }
      check('eth0', steps.slice(0, index + 1));
      if (nic.vf !== undefined) check(nic.vf, steps.slice(0, index + 1));
    }
    await scene.finish();
    expect(scene.errors).toEqual([]);
  }, 120_000);

  it('has another MAC address on both paths, and takes the VF under the one it came with', async () => {
    const scene = await Scene.open();
    const { lab, port, nic } = scene;
    await port.configure({ mac: OWN });
    expect(port.mac).toBe(OWN);
    await nic.plug(); // with the address that the host gave it
    await ownedBy(port, 'vf');
    for (const device of ['eth0', 'vf0']) expect(linkIn(lab.guest, device)!.address).toBe(OWN);
    await port.configure({ mac: null });
    await ownedBy(port, 'vf');
    for (const device of ['eth0', 'vf0']) expect(linkIn(lab.guest, device)!.address).toBe(nic.mac);
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('is as before on both paths if one of them refuses, and says what it was', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    limitVf(lab);
    const scene = await Scene.openIn(lab, { frameSize: 4096 });
    const { port } = scene;
    await ownedBy(port, 'vf');
    await port.configure({ promiscuous: true, mtu: 1600 });
    const before = [configured(lab, 'eth0'), configured(lab, 'vf0')];
    await expect(port.configure({ mtu: 3700, promiscuous: false, unicast: UNICAST })).rejects.toMatchObject({
      ...{ code: 'ERR_DEVICE_SETTINGS', device: 'vf0', syscall: 'RTM_SETLINK', errno: 22 },
    });
    expect([configured(lab, 'eth0'), configured(lab, 'vf0')]).toEqual(before);
    expect(port.configuration).toMatchObject({ generation: 1, mtu: 1600, promiscuous: true, unicast: [] });
    await ownedBy(port, 'vf');
    expect(scene.errors).toEqual([]);
    await scene.finish();
  });

  it('uses a VF that refuses a part of it, and says so', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    limitVf(lab);
    const scene = await Scene.openIn(lab, {
      frameSize: 4096,
      configuration: { mtu: 3700, promiscuous: true },
    });
    const { port } = scene;
    await ownedBy(port, 'vf');
    expect(configured(lab, 'vf0')).toMatchObject({ mtu: 1500, promiscuous: true });
    expect(scene.paths.vf?.refused).toEqual([expect.stringContaining('mtu 3700')]);
    expect(scene.paths.synthetic?.refused).toEqual([]);
    await until('it to be told', () => scene.errors.some(({ message }) => message.includes('mtu 3700')));
    await port.configure({ mtu: null });
    await until('nothing refused', () => port.configuration.mtu === null);
    await scene.finish();
  });

  it('takes an MTU that an administrator sets in place of its own, for the VF too', async () => {
    const scene = await Scene.open();
    const { lab, port } = scene;
    await scene.plug();
    await port.configure({ mtu: 1400 });
    execFileSync('ip', ['-n', lab.guest, 'link', 'set', 'eth0', 'mtu', '1300']);
    await until('the VF to follow', () => linkIn(lab.guest, 'vf0')!.mtu === 1300);
    await until('the port to know', () => port.configuration.mtu === 1300);
    await scene.finish();
    expect([linkIn(lab.guest, 'eth0')!.mtu, linkIn(lab.guest, 'vf0')!.mtu]).toEqual([1300, 1500]);
  });

  it('has it from the start, and leaves nothing when its process is killed', async () => {
    const lab = await buildLab();
    const held = await hold(lab, { configuration: { mtu: 1400, promiscuous: true } });
    expect(configured(lab, 'eth0')).toMatchObject({ mtu: 1400, promiscuous: true });
    await kill(held);
    await until('the kernel to drop it', () => !configured(lab, 'eth0').promiscuous);
    const scene = await Scene.openIn(lab); // the next start puts back the MTU
    expect(configured(lab, 'eth0').mtu).toBe(1500);
    await scene.finish();
  });
});
