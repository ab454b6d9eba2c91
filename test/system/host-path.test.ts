/**
 * The machine's own programs use the interface through a port, and do not notice: name look-ups, downloads, a
 * session, bulk streams, each way, while the VF comes and goes. ../faults/host-kill.test.ts kills the port's process.
 */
import { describe, expect, it } from 'vitest';
import type { HostMode } from '../../dist/src/options.js';
import { ownedBy, Scene } from '../support/harness.ts';
import { kernelView } from '../support/kernel-view.ts';
import { arpLab, Life, MIB } from '../support/life.ts';
import { badChecksums } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);

const CASES: readonly { standIn: 'veth' | 'bridge'; host: HostMode; cycles: number }[] = [
  { standIn: 'veth', host: 'inline', cycles: 3 },
  { standIn: 'bridge', host: 'ingress', cycles: 3 },
  { standIn: 'veth', host: 'ingress', cycles: 1 },
  { standIn: 'bridge', host: 'inline', cycles: 1 },
];
/** Bulk streams probe for the room that there is, so they may meet its end; and nothing else. */
const CONGESTION = ['txFull', 'handoffFull', 'hostFull', 'noFrame'];
/** The cycle in which the VF goes by surprise. */
const SURPRISE = 2;

describe.each(CASES)(
  'over a $standIn, $host, the VF coming and going $cycles times,',
  ({ standIn, host, cycles }) => {
    it('the programs of the machine work on, and its stack keeps its ways', async () => {
      const lab = await arpLab(standIn);
      const life = await Life.begin(lab);
      await life.goOn();
      const view = kernelView(lab.guest);
      const scene = await Scene.openIn(lab, { handler: HOST, host });
      const { port, nic } = scene;
      await life.errands();
      await life.stream();
      await life.goOn();
      for (let cycle = 0; cycle < cycles; cycle++) {
        const before = port.stats().paths.vf;
        await scene.plug();
        await life.goOn();
        await life.errands();
        const { rxBytes, txBytes } = port.stats().paths.vf;
        expect(rxBytes).toBeGreaterThan(before.rxBytes + MIB);
        if (host === 'inline') expect(txBytes).toBeGreaterThan(before.txBytes + MIB);
        await scene.whole();
        expect(kernelView(lab.guest)).toEqual(view);
        if (cycle === SURPRISE) {
          nic.surprise();
          await nic.hostNotices();
          await ownedBy(port, 'synthetic');
        } else await scene.unplug();
        await life.goOn();
        await life.errands();
        await scene.whole();
      }
      await life.settle();

      const away = port.failovers().filter(({ from, to }) => from === 'vf' && to === 'synthetic');
      expect(away).toHaveLength(cycles * lab.queues);
      const { passed, fromHost, paths, queues, dropped } = port.stats();
      const dropping = Object.entries(dropped).filter(([, packets]) => packets > 0);
      expect(CONGESTION).toEqual(expect.arrayContaining(dropping.map(([reason]) => reason)));
      // Towards the stack in large segments; from it as well, which go uncut.
      expect(paths.host.txChains).toBeGreaterThan(0);
      expect(paths.host.txChains).toBeLessThan(passed);
      const cut = queues.reduce((sum, { segments }) => sum + segments, 0);
      const uncut = [paths.synthetic.txSegments, paths.vf.txSegments];
      if (host === 'inline') expect(Math.min(...uncut)).toBeGreaterThan(MIB / 2 / 65_536);
      else expect([fromHost, cut, ...uncut]).toEqual([0, 0, 0, 0]);
      expect(kernelView(lab.guest)).toEqual(view);

      await scene.finish(); // the ledgers
      expect(scene.errors).toEqual([]);
      expect(kernelView(lab.guest)).toEqual(view);
      await life.hush(false);
      await life.goOn(0);
      for (const namespace of [lab.guest, lab.outside]) expect(badChecksums(namespace)).toBe(0);
    });
  },
);
