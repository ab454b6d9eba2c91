/** The coordinator's thread ends, at any point of a port's life: another one goes on, and packets flow all the while. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { buildLab, drive, expectUnharmed, nothingLeft, passed, until } from './harness.ts';
import { type Fault, OrderedPort } from './ordered-port.ts';

/** Calls of the shim that a coordinator makes from its start to a port with both paths, and to its end; the test checks. */
const OPENING = 60;

describe('a port whose coordinator ends', () => {
  test('goes on with another one, loses no packet, and leaves nothing behind, whenever that is', {
    timeout: 300_000,
  }, async () => {
    const lab = await buildLab();
    const process = OrderedPort.start();
    await process.open(lab, { thread: 'twinpath-coord', call: 1_000_000, dies: true });
    await process.ask('close');
    const before = await process.ask('left');
    const found = { refused: 0, replaced: 0 };
    // Each prime: the calls of one kind come at regular distances.
    for (const call of [3, 17, 41, 67, 97, 127, 157, 191, 223, 251, 283, 331]) {
      const fault: Fault = { thread: 'twinpath-coord', call, dies: true };
      const { opened, error } = await process.open(lab, fault);
      if (!opened) {
        expect(error).toMatchObject({ name: 'TwinpathError', code: 'ERR_WORKER' });
        found.refused++;
      } else {
        const traffic = await drive(lab, lab.nic, { rate: 2000 });
        await passed(traffic, 50);
        const owned = (path: string) => async () =>
          (await process.ask('look')).owners.every((owner) => owner === path);
        await lab.nic.plug();
        await until(`all queues on the VF, call ${call}`, owned('vf'));
        await lab.nic.moveDataPath('vf');
        await passed(traffic, 50);
        await lab.nic.unplug();
        await until(`all queues on the synthetic path, call ${call}`, owned('synthetic'));
        await passed(traffic, 50);
        // By then it has died: it looks at everything twice a second.
        await until(`a death, call ${call}`, async () => (await process.ask('look')).errors.length > 0);
        const { errors, closed } = await process.ask('look');
        expect(errors.map(({ code, message }) => [code, /the coordinator died/.test(message)])).toEqual([
          ['ERR_WORKER', true],
        ]);
        expect(closed).toBe(false);
        found.replaced++;
        expectUnharmed(await traffic.stop({ settleMillis: 400 }));
        const { frames } = await process.ask('close');
        expect(frames.map(({ accounted }) => accounted)).toEqual(frames.map(({ total }) => total));
      }
      await nothingLeft(lab);
      await until('the descriptors of before', async () => {
        const { descriptors, mappings } = await process.ask('left');
        return descriptors.join() === before.descriptors.join() && mappings.join() === before.mappings.join();
      });
    }
    expect(found.refused).toBeGreaterThan(0);
    expect(found.replaced).toBeGreaterThan(OPENING / 10);
  });
});
