/** A flow has one worker, whatever the paths and the devices make of it. */
import { expect, it } from 'vitest';
import {
  addsUp,
  buildLab,
  expectNoDrops,
  expectUnharmed,
  passed,
  Scene,
  type TrafficReport,
  until,
} from '../support/harness.ts';

const WITNESS = new URL('../fixtures/handlers/witness.mjs', import.meta.url);
const FLOWS = 256;
const FIRST_PORT = 20_000;

/** Four words a flow: workers that saw it without a hash; by the synthetic path; by the VF. */
const notes = (): Int32Array => new Int32Array(new SharedArrayBuffer(16 * FLOWS));

async function open(
  seen: Int32Array,
  workers: number,
  deviceQueues: number,
  rss?: 'software',
): Promise<Scene> {
  const lab = await buildLab({ queues: deviceQueues });
  return Scene.openIn(lab, {
    ...{ queues: workers, handler: WITNESS, rss },
    handlerOptions: { address: lab.nic.guestAddress, seen, first: FIRST_PORT },
  });
}

const drive = (scene: Scene) => scene.drive({ flows: FLOWS, firstPort: FIRST_PORT, rate: 10_000 });

/** The workers that a flow was seen by, over all paths. */
function workersOf(seen: Int32Array): number[] {
  return Array.from({ length: FLOWS }, (_, flow) => seen[4 * flow + 1]! | seen[4 * flow + 2]!);
}

const isOne = (mask: number): boolean => mask !== 0 && (mask & (mask - 1)) === 0;

async function throughFailovers(scene: Scene, seen: Int32Array): Promise<TrafficReport> {
  const traffic = await drive(scene);
  const all = (path: 1 | 2) => () => {
    for (let flow = 0; flow < FLOWS; flow++) if (seen[4 * flow + path] === 0) return false;
    return true;
  };
  await until('every flow on the synthetic path', all(1));
  for (let cycle = 0; cycle < 2; cycle++) {
    await scene.plug();
    await until('every flow on the VF', all(2));
    await passed(traffic);
    await scene.unplug();
    await passed(traffic);
    await scene.whole();
  }
  const [report] = await scene.finish();
  return report!;
}

for (const workers of [2, 4]) {
  it(`a flow stays on its worker over failovers: ${FLOWS} flows, ${workers} workers`, async () => {
    const seen = notes();
    const scene = await open(seen, workers, workers);
    const report = await throughFailovers(scene, seen);
    expectUnharmed(report);
    expectNoDrops(scene.port);
    const masks = workersOf(seen);
    expect(masks.filter((mask) => !isOne(mask))).toEqual([]);
    expect(new Set(masks).size).toBe(workers); // all of them have flows
    expect(seen.filter((mask, i) => i % 4 === 0 && mask !== 0)).toHaveLength(0); // each with its hash
    expect(scene.port.stats().handedOver).toBeGreaterThan(0);
  });
}

it('a VF with fewer queues than the port sends and receives for all workers', async () => {
  const seen = notes();
  const scene = await open(seen, 2, 1, 'software');
  const report = await throughFailovers(scene, seen);
  expectUnharmed(report);
  expectNoDrops(scene.port);
  expect(workersOf(seen).filter((mask) => !isOne(mask))).toEqual([]);
  const { paths, queues } = scene.port.stats();
  expect(queues[1]!.paths.vf).toMatchObject({ rxPackets: 0, txPosted: 0 });
  expect(paths.vf.txPackets).toBeGreaterThan(0);
});

it('flows move when the number of queues changes, and no packet is lost', async () => {
  const seen = notes();
  const scene = await open(seen, 4, 2, 'software');
  const { port } = scene;
  const traffic = await drive(scene);
  const seenNow = async (): Promise<number> => {
    seen.fill(0);
    await passed(traffic, 6 * FLOWS);
    return workersOf(seen).reduce((all, mask) => all | mask, 0);
  };
  expect(await seenNow()).toBe(0b1111);
  await port.setQueues(2);
  expect(await seenNow()).toBe(0b0011);
  expect(port.activeQueues).toEqual([0, 1]);
  await port.stopQueue(0);
  expect(await seenNow()).toBe(0b0010);
  await expect(port.stopQueue(1)).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  await port.startQueue(3);
  expect(await seenNow()).toBe(0b1010);
  await Promise.all([port.startQueue(0), port.stopQueue(3), port.startQueue(2), port.stopQueue(1)]);
  expect(port.activeQueues).toEqual([0, 2]);
  expect(await seenNow()).toBe(0b0101);
  await port.setQueues(4);
  expect(await seenNow()).toBe(0b1111);
  await scene.whole();
  const [report] = await scene.finish();
  expect(report!.packets).toMatchObject({ lost: 0, duplicated: 0 });
  expectNoDrops(port);
  await expect(port.setQueues(5)).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  await addsUp(port);
});

it('a VF that does not say how it spreads flows is described as one whose flows the workers hand over', async () => {
  const scene = await Scene.open();
  await scene.plug();
  await until('the VF described', () => scene.paths.vf !== undefined);
  expect(scene.paths.vf).toMatchObject({ rss: 'software' });
  await scene.unplug();
  await scene.finish();
});
