/** What a port with a host path owes to the programs of its machine while the VF comes and goes. */
import { expect } from 'vitest';
import type { HostMode } from '../../dist/src/options.js';
import { ownedBy, Scene } from './harness.ts';
import { kernelView } from './kernel-view.ts';
import { arpLab, Life, MIB } from './life.ts';
import { badChecksums } from './stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);

/** Bulk streams probe for the room that there is, so they may meet its end; and nothing else. */
const CONGESTION = ['txFull', 'handoffFull', 'hostFull', 'noFrame'];
/** The cycle, from 0, in which the VF goes by surprise. */
const SURPRISE = 2;

/** The programs work on through so many cycles of the VF, and the machine's stack keeps its ways. */
export async function expectLifeGoesOn(
  standIn: 'veth' | 'bridge',
  host: HostMode,
  cycles: number,
): Promise<void> {
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
}
