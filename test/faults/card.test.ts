/** A port on one card alone whose XDP program is detached again and again, or whose process is killed. */
import { describe, expect, it } from 'vitest';
import { expectLifeOnOneCard } from '../support/card-life.ts';
import { detach } from '../support/detach.ts';
import {
  buildLab,
  drive,
  expectUnharmed,
  nothingLeft,
  ownedBy,
  passed,
  Scene,
  until,
} from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { attachments } from '../support/machine-state.ts';

const ALONE = { alone: true } as const;

describe('a port on one card alone', () => {
  it.each(['ingress', 'inline'] as const)(
    'with host %s leaves the machine its programs, also while its XDP program is off the card',
    (host) =>
      expectLifeOnOneCard(host, async (scene, life) => {
        for (let time = 0; time < 2; time++) {
          detach(scene.lab, scene.port.device, 'xdp');
          await until('the report', () => scene.errors.length > 0);
          expect(scene.errors.splice(0)).toMatchObject([
            { code: 'ERR_DEVICE_CHANGED', detail: expect.stringContaining('was detached') },
          ]);
          await life.goOn();
          await life.errands();
          await scene.whole();
        }
      }),
  );

  it('leaves nothing when its process is killed, the kernel answers at once, and the next port opens', async () => {
    const lab = await buildLab();
    const held = await hold(lab, { alone: true });
    await until('AF_XDP in use', () => held.said().endsWith('vf vf\n'));
    const traffic = await drive(lab, lab.nic);
    await passed(traffic);
    const attached = attachments(lab.guest).join('; ');
    for (const what of ['tap ', `XDP `, `tcx ingress on ${lab.nic.netvsc}`]) expect(attached).toContain(what);

    await kill(held);
    await nothingLeft(lab);
    const { icmpReceived } = traffic.progress();
    await until('pings answered by the kernel', () => traffic.progress().icmpReceived >= icmpReceived + 5);
    await traffic.stop({ settleMillis: 0 });

    const scene = await Scene.openIn(lab, ALONE);
    const again = await scene.drive();
    await ownedBy(scene.port, 'vf');
    await passed(again);
    const [report] = await scene.finish();
    expectUnharmed(report!);
  });
});
