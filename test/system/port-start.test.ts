/** A port that is opened without being started, started, stopped: the traffic is the kernel's, then the port's. */

import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import {
  addsUp,
  buildLab,
  drive,
  expectUnharmed,
  type Lab,
  ownedBy,
  owners,
  passed,
  Scene,
  until,
} from '../support/harness.ts';
import { attachments, linkIn } from '../support/machine-state.ts';

/** Packets that the kernel's own stack has been given, as UDP to no socket and echo requests. */
function stackReceived(lab: Lab): number {
  const snmp = execFileSync('ip', ['netns', 'exec', lab.guest, 'cat', '/proc/net/snmp'], {
    encoding: 'utf8',
  });
  const [names, values] = snmp.split('\n').filter((line) => line.startsWith('Ip:'));
  const at = names!.split(' ').indexOf('InReceives');
  return Number(values!.split(' ')[at]);
}

describe('a port that is not started', () => {
  it('leaves the traffic to the kernel, is configured all the same, and serves once it is started', async () => {
    const lab = await buildLab();
    const scene = await Scene.openIn(lab, { configuration: { started: false, mtu: 1400 } });
    const { port } = scene;
    const traffic = await drive(lab, lab.nic);
    const kernels = async (packets = 200): Promise<void> => {
      const before = stackReceived(lab);
      await until('packets for the kernel', () => stackReceived(lab) > before + packets);
    };
    await kernels();
    expect(port.paths).toEqual({});
    expect(port.configuration).toMatchObject({ started: false, mtu: 1400 });
    expect(linkIn(lab.guest, 'eth0')!.mtu).toBe(1400);
    await lab.nic.plug();
    await until('the VF open, and no packet for the port', () =>
      attachments(lab.guest).some((one) => /vf0/.test(one)),
    );
    await kernels();
    expect(owners(port)).toEqual(['none', 'none']);
    expect(port.stats()).toMatchObject({ received: 0, transmitted: 0 });

    await port.start();
    await ownedBy(port, 'vf');
    await lab.nic.moveDataPath('vf');
    await passed(traffic);
    const served = port.stats().received;
    expect(served).toBeGreaterThan(0);

    await port.stop();
    expect(owners(port)).toEqual(['none', 'none']);
    expect(port.paths).toEqual({});
    const { received } = port.stats();
    await kernels();
    expect(port.stats().received).toBe(received);
    await scene.whole();
    for (const device of ['eth0', 'vf0']) expect(linkIn(lab.guest, device)!.mtu).toBe(1400);

    await port.start();
    await ownedBy(port, 'vf');
    await passed(traffic);
    await traffic.stop({ settleMillis: 400 });
    await addsUp(port);
    expect(port.configuration).toMatchObject({ started: true, mtu: 1400, generation: 4 });
    await scene.finish();
    expect(scene.errors).toEqual([]);
    expect(linkIn(lab.guest, 'eth0')!.mtu).toBe(1500);
  });

  it('is closed as it is, and leaves nothing', async () => {
    const lab = await buildLab();
    const scene = await Scene.openIn(lab, { configuration: { started: false } });
    await lab.nic.plug();
    await until('the VF open', () => attachments(lab.guest).some((one) => /vf0/.test(one)));
    await scene.finish();
  });

  it('starts and stops again and again without a loss of what was sent while it served', async () => {
    const scene = await Scene.open();
    const { port } = scene;
    for (let cycle = 0; cycle < 3; cycle++) {
      const traffic = await drive(scene.lab, scene.nic);
      await passed(traffic, 200);
      expectUnharmed(await traffic.stop({ settleMillis: 400 }));
      await port.stop();
      await port.start();
    }
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});
