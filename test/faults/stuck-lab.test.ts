/** A handler that does not return, or that ends its thread, over the kernel's own devices. */
import { describe, expect, it } from 'vitest';
import type { Port } from '../../dist/src/index.js';
import { BURST } from '../../src/memory/layout.ts';
import { buildLab, passed, Scene, type Traffic, type TrafficReport, until } from '../support/harness.ts';

const FATEFUL = new URL('../fixtures/handlers/fateful-echo.mjs', import.meta.url);
const FIRST_PORT = 20_000;

const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count));

/** What is lost is what the handler had in hand. */
function costs(port: Port, { packets, icmp }: TrafficReport): void {
  const { stuck } = port.stats().dropped;
  expect(packets).toMatchObject({ duplicated: 0, unknown: 0 });
  expect(packets.lost + icmp.lost).toBeLessThanOrEqual(stuck);
}

describe('a handler that does not return, in a lab', () => {
  async function open(
    tap: 'io_uring' | 'read/write',
    orders: Int32Array,
  ): Promise<{ scene: Scene; traffic: Traffic; replaced: () => number }> {
    const lab = await buildLab();
    const scene = await Scene.openIn(lab, {
      ...{ tap, handler: FATEFUL, stuckMillis: 150, rss: 'software' },
      handlerOptions: { address: lab.nic.guestAddress, orders },
    });
    let replaced = 0;
    let died = 0;
    scene.port.on('worker', ({ state, detail }) => {
      if (state === 'died') expect(detail).toBe('its handler does not return');
      if (state === 'died') died++;
      else if (died > 0) replaced++;
    });
    const traffic = await scene.drive({ flows: 16, firstPort: FIRST_PORT });
    return { scene, traffic, replaced: () => replaced };
  }

  it.each([
    { tap: 'io_uring', path: 'synthetic' },
    { tap: 'read/write', path: 'synthetic' },
    { tap: 'io_uring', path: 'vf' },
  ] as const)(
    'loses its burst, counted, and nothing else: the $path path, by $tap',
    async ({ tap, path }) => {
      const orders = words(2);
      const { scene, traffic, replaced } = await open(tap, orders);
      if (path === 'vf') await scene.plug();
      for (let time = 1; time <= 3; time++) {
        Atomics.store(orders, 0, 1);
        await until('a new worker', () => replaced() === time);
        await passed(traffic, 300);
        await scene.whole();
      }
      const { stuck } = scene.port.stats().dropped;
      expect(stuck).toBeGreaterThanOrEqual(3);
      expect(stuck).toBeLessThanOrEqual(3 * BURST);
      expect(scene.port.stats().handedOver).toBeGreaterThan(0);
      const [report] = await scene.finish();
      costs(scene.port, report!);
    },
  );

  it('does not keep a failover that is ordered meanwhile', async () => {
    const orders = words(2);
    const { scene, traffic, replaced } = await open('io_uring', orders);
    for (let cycle = 1; cycle <= 2; cycle++) {
      Atomics.store(orders, 0, 1);
      await until('stuck', () => Atomics.load(orders, 0) === 0);
      await scene.plug();
      await passed(traffic, 300);
      Atomics.store(orders, 0, 1);
      await until('stuck', () => Atomics.load(orders, 0) === 0);
      await scene.unplug();
      await passed(traffic, 300);
      await until('new workers', () => replaced() === 2 * cycle);
    }
    const [report] = await scene.finish();
    costs(scene.port, report!);
  });
});

it('a VF with fewer queues than the port lives through surprise removals and the ends of its workers', async () => {
  const lab = await buildLab({ queues: 1 });
  const [orders, seen] = [words(3), words(250)];
  orders[1] = 1;
  const scene = await Scene.openIn(lab, {
    ...{ queues: 2, rss: 'software', handler: FATEFUL },
    handlerOptions: { address: lab.nic.guestAddress, orders, seen },
  });
  let replaced = -2; // the first two start when the port opens
  scene.port.on('worker', ({ state }) => void (state === 'started' && replaced++));
  const traffic = await scene.drive({ flows: 64, firstPort: FIRST_PORT });
  replaced = 0;
  let deaths = 0;
  for (let cycle = 0; cycle < 3; cycle++) {
    await scene.plug();
    await passed(traffic, 300);
    for (const when of ['on the VF', 'as it goes', 'afterwards']) {
      // In turn: a queue whose workers die seven times in a row is given up, and the other has its flows.
      orders[2] = 1 + (deaths++ % 2);
      Atomics.store(orders, 0, 1);
      if (when === 'as it goes') {
        scene.nic.surprise();
        await scene.nic.hostNotices();
        await until('the synthetic path', () =>
          scene.port.stats().queues.every(({ owner }) => owner === 'synthetic'),
        );
      }
      await until(`a new worker ${when}`, () => replaced === deaths);
      await passed(traffic, 300);
      await scene.whole();
    }
  }
  const { packets } = await traffic.stop({ settleMillis: 400 });
  await scene.whole();
  expect(packets.duplicated).toBeLessThanOrEqual(deaths * BURST);
  // A flow has one worker, and each packet its hash, also when a new worker finds it in a dead one's ring.
  const marks = [...seen].filter((mark) => mark !== 0);
  expect(marks).toHaveLength(64);
  for (const mark of marks) expect([1, 2]).toContain(mark);
  await scene.close();
});
