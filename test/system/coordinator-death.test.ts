/** The coordinator's thread ends, at any point of a port's life: another one goes on, or the kernel has its NIC back. */
import { describe, expect, test } from 'vitest';
import { buildLab, drive, expectUnharmed, type Lab, nothingLeft, passed, until } from './harness.ts';
import { type Fault, OrderedPort } from './ordered-port.ts';

/** Before which of its calls of the shim the coordinator ends. Primes: calls of one kind come at regular distances. */
const OPENING = [3, 17, 41, 67, 97, 127];
const LIVING = [199, 211, 223, 241, 263, 283, 307, 331];

const dying = (call: number, more: Partial<Fault> = {}): Fault => ({
  ...{ thread: 'twinpath-coord', call, dies: true },
  ...more,
});

/** What the process has open, once it has opened and closed a port: the first leaves some for good. */
async function warm(lab: Lab, process: OrderedPort): Promise<{ descriptors: string[]; mappings: string[] }> {
  expect(await process.open(lab, { thread: 'twinpath-coord', call: 0 })).toEqual({ opened: true });
  await process.ask('close');
  const { descriptors, mappings } = await process.ask('left');
  return { descriptors, mappings };
}

/** Nothing in the namespace, and in the process what there was before. */
async function sameAsBefore(lab: Lab, process: OrderedPort, before: object, fault: Fault): Promise<void> {
  await nothingLeft(lab);
  const left = async (): Promise<object> => {
    const { descriptors, mappings } = await process.ask('left');
    return { descriptors, mappings };
  };
  const same = async (): Promise<boolean> => JSON.stringify(await left()) === JSON.stringify(before);
  await until('the descriptors of before', same, 5_000).catch(() => {});
  expect({ fault, ...(await left()) }).toEqual({ fault, ...before });
}

describe('a coordinator that ends', { timeout: 300_000 }, () => {
  test('while it opens a port leaves nothing open, and the port is refused with an error', async () => {
    const lab = await buildLab();
    const process = OrderedPort.start();
    const before = await warm(lab, process);
    for (const call of OPENING) {
      const { opened, error } = await process.open(lab, dying(call));
      expect({ call, opened, error }).toMatchObject({
        ...{ call, opened: false },
        error: { name: 'TwinpathError', code: 'ERR_WORKER', message: /the coordinator died/ },
      });
      await sameAsBefore(lab, process, before, dying(call));
    }
  });

  test('is followed by another one, while packets flow and none is lost, whenever it ends', async () => {
    const lab = await buildLab();
    const process = OrderedPort.start();
    const before = await warm(lab, process);
    for (const call of LIVING) {
      expect(await process.open(lab, dying(call))).toEqual({ opened: true });
      const traffic = await drive(lab, lab.nic, { rate: 2000 });
      await passed(traffic, 50);
      const owned = (path: string) => async () =>
        (await process.ask('look')).owners.every((owner) => owner === path);
      await lab.nic.plug();
      await until(`all queues on the VF, call ${call}`, owned('vf'));
      await lab.nic.moveDataPath('vf');
      await passed(traffic, 50);
      // It looks at everything twice a second: its call comes.
      await until(`a death, call ${call}`, async () => (await process.ask('look')).errors.length > 0);
      await lab.nic.unplug();
      await until(`all queues on the synthetic path, call ${call}`, owned('synthetic'));
      await passed(traffic, 50);
      const { errors, closed } = await process.ask('look');
      expect({ call, errors, closed }).toEqual({
        ...{ call, closed: false },
        errors: [
          expect.objectContaining({ code: 'ERR_WORKER', message: expect.stringMatching(/coordinator died/) }),
        ],
      });
      expectUnharmed(await traffic.stop({ settleMillis: 400 }));
      const { frames } = await process.ask('close');
      expect(frames.map(({ accounted }) => accounted)).toEqual(frames.map(({ total }) => total));
      await sameAsBefore(lab, process, before, dying(call));
    }
  });

  test('again and again closes the port with an error, and the kernel has its interface back', async () => {
    const lab = await buildLab();
    const process = OrderedPort.start();
    const before = await warm(lab, process);
    for (const options of [{}, { host: 'inline' }, { tie: 'clsact' }]) {
      const fault = dying(320, { thereafter: 12 });
      expect(await process.open(lab, fault, options)).toEqual({ opened: true });
      await lab.nic.plug();
      await until('a closed port', async () => (await process.ask('look')).closed);
      const { errors } = await process.ask('look');
      expect(errors.at(-1)).toMatchObject({ code: 'ERR_WORKER', message: /the coordinator died/ });
      expect(errors.at(-1)!.message).toMatch(/the kernel has its interfaces back/);
      await sameAsBefore(lab, process, before, fault);
      await lab.nic.unplug();
    }
  });
});

test('a supervisor that ends takes its port along, and the kernel has its interface back', async () => {
  const lab = await buildLab();
  const process = OrderedPort.start();
  const before = await warm(lab, process);
  // Its calls: a name, three eventfds, a ring for each of two workers that are to stop, and then it closes.
  for (const call of [6, 7, 9]) {
    const fault: Fault = { thread: 'twinpath-super', call, dies: true };
    expect(await process.open(lab, fault)).toEqual({ opened: true });
    await lab.nic.plug();
    await until('the VF in use', async () => (await process.ask('look')).owners.includes('vf'));
    await process.ask('close');
    const { errors, closed } = await process.ask('look');
    expect(closed).toBe(true);
    expect(errors.at(-1)).toMatchObject({ code: 'ERR_WORKER', message: /the supervisor died/ });
    await sameAsBefore(lab, process, before, fault);
    await lab.nic.unplug();
  }
});
