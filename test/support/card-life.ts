/** What a port on one card alone owes to the programs of its machine. */
import { expect } from 'vitest';
import { ownedBy, Scene } from './harness.ts';
import { kernelView } from './kernel-view.ts';
import { arpLab, Life, MIB } from './life.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);

/**
 * The programs work on, and the machine's stack keeps its ways.
 *
 * @param meanwhile is done to the port while they work
 */
export async function expectLifeOnOneCard(
  host: 'ingress' | 'inline',
  meanwhile: (scene: Scene, life: Life) => Promise<void> = async () => {},
): Promise<void> {
  const lab = await arpLab('veth');
  const life = await Life.begin(lab);
  await life.goOn();
  const view = kernelView(lab.guest);
  const scene = await Scene.openIn(lab, { alone: true, handler: HOST, host });
  const { port } = scene;
  await ownedBy(port, 'vf');
  await life.errands();
  await life.stream();
  await life.goOn();
  const { rxBytes, txBytes } = port.stats().paths.vf;
  expect(rxBytes).toBeGreaterThan(MIB);
  if (host === 'inline') expect(txBytes).toBeGreaterThan(MIB);
  await meanwhile(scene, life);
  await life.settle();
  expect(port.stats().passed).toBeGreaterThan(1000);
  await scene.finish();
  expect(scene.errors).toEqual([]);
  expect(kernelView(lab.guest)).toEqual(view);
  await life.hush(false);
  await life.goOn(0);
}
