/** A port with flow rules is opened, killed and opened: what the rules leave to the machine's own stack is untouched. */
import { describe, expect, it } from 'vitest';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { addsUp, nothingLeft, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { arpLab, Life } from '../support/life.ts';

/** Not the name server of the guest's own stack, whose look-ups are to go on. */
const ECHO_PORT = 5353;
const CONFIGURATION = { rules: [`udp dst port ${ECHO_PORT} to handler`], isolate: true };
const NOTHING = { packets: 0, bytes: 0 };

const redirects = kernelIsAtLeast(6, 6) ? (['tcx', 'clsact'] as const) : (['clsact'] as const);

describe('a rule that gives one UDP port to the handler, with isolate,', () => {
  it.each(redirects)(
    'leaves the machine’s connections alone while the port is opened, killed and opened: %s',
    { timeout: 90_000 },
    async (redirect) => {
      const lab = await arpLab('bridge');
      const life = await Life.begin(lab);
      const { guestAddress } = lab.nic;
      await life.stream();
      await life.goOn();
      // A handler that drops all packets but echo requests to its UDP port.
      const port7 = { rules: ['udp dst port 7 to handler'], isolate: true };
      const held = await hold(lab, { redirect, configuration: port7 });
      expect(await life.echo(7, 5)).toBeGreaterThanOrEqual(5);
      await life.goOn();
      await kill(held);
      await life.goOn();
      if (redirect === 'tcx') await nothingLeft(lab);
      const scene = await Scene.openIn(lab, {
        redirect,
        handlerOptions: { address: guestAddress, port: ECHO_PORT },
        configuration: CONFIGURATION,
      });
      const { port } = scene;
      let sent = await life.echo(ECHO_PORT, 5);
      await life.goOn();
      await scene.plug();
      sent += await life.echo(ECHO_PORT, 5);
      await until('an echo through the VF', () => port.stats().paths.vf.rxPackets > 0);
      await life.goOn();
      await life.errands();
      await scene.unplug();
      await life.goOn();
      await addsUp(port);
      const { rules, otherwise, overtagged } = await port.rules.counters();
      expect([rules.map(({ packets }) => packets), overtagged]).toEqual([[sent], NOTHING]);
      expect(otherwise.packets).toBeGreaterThan(1000);
      const { received, dropped } = port.stats();
      expect([received, dropped.verdict]).toEqual([sent, 0]);
      await life.settle();
      await scene.finish();
      expect(scene.errors).toEqual([]);
      await life.hush(false);
      await life.goOn(0);
    },
  );
});
