/**
 * A port on one card alone: AF_XDP on the card itself, and a tap redirected to and from the same card for PASS and to fall
 * back on. faults/card.test.ts kills its process, and takes its XDP program away under the machine's connections.
 */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { Bpf } from '../../dist/src/kernel/bpf.js';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { expectLifeOnOneCard } from '../support/card-life.ts';
import { detach } from '../support/detach.ts';
import { expectNoDrops, expectUnharmed, ownedBy, owners, passed, Scene, until } from '../support/harness.ts';
import { arpLab, Life } from '../support/life.ts';
import { linkIn } from '../support/machine-state.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const ALONE = { alone: true } as const;
/** r0 = 2 (XDP_PASS); exit. */
const PASS = Uint8Array.of(0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);

describe('a port on one card alone', () => {
  it('receives and sends by AF_XDP on the card, and loses and doubles nothing', async () => {
    const scene = await Scene.open({ port: ALONE });
    const traffic = await scene.drive();
    await ownedBy(scene.port, 'vf');
    await passed(traffic);
    const { device } = scene.port;
    expect(scene.paths).toMatchObject({
      vf: { driver: 'af-xdp', device, mode: expect.stringMatching(/^native/) },
      synthetic: { driver: 'tap', device },
      host: { driver: 'host', device },
    });
    const { vf, synthetic } = scene.port.stats().paths;
    expect(vf.rxPackets).toBeGreaterThan(600);
    expect([synthetic.rxPackets, synthetic.txPackets]).toEqual([0, 0]);
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it.each(['ingress', 'inline'] as const)(
    'with host %s leaves the machine its programs and its settings',
    (host) => expectLifeOnOneCard(host),
  );

  it('receives through the tap while its XDP program is detached from the card', async () => {
    const scene = await Scene.open({ port: ALONE });
    const traffic = await scene.drive({ rate: 10_000 });
    await ownedBy(scene.port, 'vf');
    await passed(traffic);
    detach(scene.lab, scene.port.device, 'xdp');
    await until('the report', () => scene.errors.length > 0);
    scene.errors.length = 0;
    await passed(traffic);
    expect(owners(scene.port).every((owner) => owner === 'vf')).toBe(true);
    expectNoDrops(scene.port);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it('lives on the tap while another program has the XDP hook, and moves to AF_XDP when that has gone', async () => {
    const scene = await Scene.open({ port: ALONE });
    const { lab, port } = scene;
    const { device } = port;
    const traffic = await scene.drive({ rate: 10_000 });
    await ownedBy(port, 'vf');
    const shim = loadShim();
    const bpf = new Bpf(shim);
    const program = bpf.load('xdp', 'other', PASS);
    const { ifindex } = linkIn(lab.guest, device)!;
    const other = inNamespace(shim, lab.guest, () => {
      detach(lab, device, 'xdp');
      return bpf.attachXdp(program, ifindex, 'native');
    });
    expect(other).toBeGreaterThan(0);
    await ownedBy(port, 'synthetic');
    await passed(traffic);
    expect(scene.errors.splice(0)[0]).toMatchObject({ code: 'ERR_DEVICE_BUSY', device });
    shim.close(other);
    shim.close(program);
    await ownedBy(port, 'vf');
    await passed(traffic);
    expectNoDrops(port);
    const { vf, synthetic } = port.stats().paths;
    expect(Math.min(vf.rxPackets, vf.txPackets, synthetic.rxPackets, synthetic.txPackets)).toBeGreaterThan(0);
    scene.errors.length = 0;
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it('gives both paths up when the card goes down, and has both again when it is up', async () => {
    const scene = await Scene.open({ port: ALONE });
    const traffic = await scene.drive();
    await ownedBy(scene.port, 'vf');
    const { device } = scene.port;
    const set = (state: 'up' | 'down'): void =>
      void execFileSync('ip', ['-n', scene.lab.guest, 'link', 'set', device, state]);
    for (let time = 0; time < 2; time++) {
      set('down');
      await ownedBy(scene.port, 'none');
      set('up');
      await ownedBy(scene.port, 'vf');
      await passed(traffic);
    }
    expect(scene.paths).toMatchObject({ vf: { driver: 'af-xdp' }, synthetic: { driver: 'tap' } });
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('stays on the tap where the driver has no native XDP, says so once, and passes packets once', async () => {
    const lab = await arpLab('bridge'); // a bridge has none
    const life = await Life.begin(lab);
    const scene = await Scene.openIn(lab, { ...ALONE, handler: HOST });
    await life.goOn();
    expect(owners(scene.port).every((owner) => owner === 'synthetic')).toBe(true);
    expect(scene.paths.vf).toBeUndefined();
    await until('the reason told', () => scene.errors.length > 0);
    expect(scene.errors.splice(0)).toMatchObject([
      { code: 'ERR_DEVICE_SETTINGS', device: scene.port.device, hint: expect.stringContaining('--host off') },
    ]);
    await life.goOn();
    await life.settle();
    await until('all received packets passed', () => {
      const { passed: gone, received } = scene.port.stats();
      return gone === received;
    });
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });
});
