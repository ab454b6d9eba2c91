/** Cards that reset themselves when a program or a socket comes or goes, and hosts that do not wait for the port. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { RtNetlink } from '../../dist/src/kernel/rtnetlink.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import {
  expectUnharmed,
  monotonicNanos,
  ownedBy,
  passed,
  Scene,
  unexplained,
  until,
} from '../support/harness.ts';

interface Blinking {
  /** How often a program was attached. */
  readonly attached: number;
  /** Whether the carrier is away for that. */
  readonly blinking: boolean;
  /** When it was: what the card had been given is lost. */
  readonly away: readonly [number, number][];
  end(): Promise<void>;
}

/** To be closed before the scene is over: it looks at what is left open. */
const linksOf = ({ lab }: Scene): RtNetlink =>
  inNamespace(loadShim(), lab.guest, () => RtNetlink.open(loadShim()));

/** Takes the VF's carrier away for a while whenever an XDP program is attached to it, as igb does. */
function blinking(scene: Scene, millis: number): Blinking {
  const links = linksOf(scene);
  const state = { attached: 0, blinking: false, away: [] as [number, number][] };
  let over = false;
  const programs = new Set<number>();
  const watch = async (): Promise<void> => {
    while (!over) {
      await sleep(1);
      const { vf } = scene.nic;
      const program = vf === undefined ? 0 : (links.link(vf)?.xdpProgram ?? 0);
      if (program === 0 || programs.has(program)) continue;
      programs.add(program);
      state.attached++;
      state.blinking = true;
      const from = monotonicNanos();
      await scene.nic.setCarrier('vf', false);
      await sleep(millis);
      await scene.nic.setCarrier('vf', true);
      state.away.push([from, monotonicNanos()]);
      state.blinking = false;
    }
    links.close();
  };
  const watching = watch();
  const end = (): Promise<void> => {
    over = true;
    return watching;
  };
  onTestFinished(end);
  return Object.assign(state, { end });
}

it.each([20, 400, 1500])(
  'a card that loses its carrier for %i ms when it is opened is opened once, and has the queues then',
  async (millis) => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    const card = blinking(scene, millis);
    for (let cycle = 1; cycle <= 2; cycle++) {
      await scene.nic.plug();
      await until('a reset', () => card.attached === cycle);
      await until('its end', () => !card.blinking);
      await ownedBy(scene.port, 'vf');
      await scene.nic.moveDataPath('vf');
      await passed(traffic);
      expect(card.attached).toBe(cycle);
      await scene.unplug();
      await passed(traffic);
    }
    await card.end();
    const [report] = await scene.finish();
    expect(unexplained(report!, card.away)).toEqual([]);
    expect(scene.errors).toEqual([]);
  },
);

it('a host that delivers by the VF as soon as there is a link finds a port that receives', async () => {
  const scene = await Scene.open({ lab: { standIn: 'bridge' } });
  const traffic = await scene.drive();
  const links = linksOf(scene);
  // The 100 ms that hv_netvsc leaves, without a clock: a busy machine may take longer.
  const prepared = async (): Promise<void> => {
    await until('a program on the VF', () => (links.link(scene.nic.vf!)?.xdpProgram ?? 0) !== 0);
    await scene.port.audit(); // answered by a thread that attaches and binds in one turn
  };
  for (let cycle = 0; cycle < 4; cycle++) {
    await scene.nic.plug({ beforeOpening: prepared });
    await scene.nic.moveDataPath('vf');
    await ownedBy(scene.port, 'vf');
    await passed(traffic);
    await scene.unplug();
    await passed(traffic);
  }
  links.close();
  const [report] = await scene.finish();
  expectUnharmed(report!);
});
