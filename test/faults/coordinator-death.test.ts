/** The coordinator's thread ends, at any point of a port's life: another one goes on, or the kernel has its NIC back. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildLab, drive, expectUnharmed, type Lab, nothingLeft, passed, until } from '../support/harness.ts';
import { ROOT } from '../support/nobody.ts';
import {
  type Fault,
  faultyShim,
  type OrderedOptions,
  OrderedPort,
  PRELOAD,
} from '../support/ordered-port.ts';
import { Run, temporary } from '../support/process.ts';

/** How far it has come with the system calls that open a port. */
const OPENING = [0.02, 0.12, 0.26, 0.39, 0.52, 0.66, 0.8];
/** How many it has made since; it makes dozens a second, and a hundred when a VF comes or goes. */
const LIVING = [40, 53, 71, 97, 131, 167, 211, 257];

/** A second coordinator gives a VF that comes the rules of the first. */
const RULES = {
  macFilter: true,
  rules: ['src in {10.0.0.0/8, 2001:db8::/32} udp dst port 7 to handler', 'icmp to handler'],
  isolate: true,
};

/** Packets between two moves: sixteen of each queue keep the order of its flows, see datapath/path-order.ts. */
const MOVED = 300;

const dying = (call: number, more: Partial<Fault> = {}): Fault => ({
  ...{ thread: 'twinpath-coord', call, dies: true },
  ...more,
});

/** What the process has open once it has opened and closed a port, and how many system calls a coordinator opens it with. */
async function warm(
  lab: Lab,
  process: OrderedPort,
  options: OrderedOptions = {},
): Promise<{ before: { descriptors: string[]; mappings: string[] }; opening: number }> {
  expect(await process.open(lab, { thread: 'twinpath-coord', call: 0 }, options)).toEqual({ opened: true });
  const { calls: opening } = await process.ask('left');
  await process.ask('close');
  const { descriptors, mappings } = await process.ask('left');
  return { before: { descriptors, mappings }, opening };
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
    const { before, opening } = await warm(lab, process);
    let refused = 0;
    for (const call of OPENING.map((part) => Math.ceil(part * opening))) {
      const { opened, error } = await process.open(lab, dying(call));
      // It looks at all there is now and then, which are calls too: a quick start may be over before so many.
      if (opened) await process.ask('close');
      else {
        refused++;
        expect({ call, error }).toMatchObject({
          ...{ call, error: { name: 'TwinpathError', code: 'ERR_WORKER' } },
        });
        expect(error!.message).toMatch(/the coordinator died/);
      }
      await sameAsBefore(lab, process, before, dying(call));
    }
    expect(refused).toBeGreaterThanOrEqual(OPENING.length / 2);
  });

  test.each([
    ['without rules', {}],
    ['with rules and the MAC filter', { configuration: RULES }],
    [
      'with a stopped queue',
      { configuration: { queues: [1], rss: { key: 'symmetric', table: [0, 1, 1, 0] } } },
    ],
    ['with rules and metadata', { configuration: RULES, metadata: ['time', 'hash', 'checksum', 'rule'] }],
  ] as [string, OrderedOptions][])(
    'is followed by another one, while packets flow and none is lost, whenever it ends: %s',
    async (_, options) => {
      const lab = await buildLab();
      const process = OrderedPort.start();
      const { before, opening } = await warm(lab, process, options);
      for (const call of LIVING.map((more) => opening + more)) {
        expect(await process.open(lab, dying(call), options)).toEqual({ opened: true });
        const traffic = await drive(lab, lab.nic, { rate: 2000 });
        await passed(traffic, MOVED);
        const owned = (path: string) => async () =>
          (await process.ask('look')).owners.every((owner) => owner === path);
        await lab.nic.plug();
        await until(`all queues on the VF, call ${call}`, owned('vf'));
        await lab.nic.moveDataPath('vf');
        await passed(traffic, MOVED);
        // It looks at everything twice a second: its call comes.
        await until(`a death, call ${call}`, async () => (await process.ask('look')).errors.length > 0);
        await lab.nic.unplug();
        await until(`all queues on the synthetic path, call ${call}`, owned('synthetic'));
        await passed(traffic, MOVED);
        const { errors, closed, up, carriers } = await process.ask('look');
        // The new coordinator reports the port's link anew, which is no change.
        expect({ call, errors, closed, up, carriers }).toEqual({
          ...{ call, closed: false, up: true, carriers: 0 },
          errors: [
            expect.objectContaining({
              code: 'ERR_WORKER',
              message: expect.stringMatching(/coordinator died/),
            }),
          ],
        });
        expectUnharmed(await traffic.stop({ settleMillis: 400 }));
        const { frames } = await process.ask('close');
        expect(frames.map(({ accounted }) => accounted)).toEqual(frames.map(({ total }) => total));
        await sameAsBefore(lab, process, before, dying(call));
      }
    },
  );

  test('again and again closes the port with an error, and the kernel has its interface back', async () => {
    const lab = await buildLab();
    const process = OrderedPort.start();
    for (const options of [{}, { host: 'inline' }, { redirect: 'clsact' }, { configuration: RULES }]) {
      const { before, opening } = await warm(lab, process, options);
      const fault = dying(opening + 100, { thereafter: 12 });
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
  const { before } = await warm(lab, process);
  // It makes some twenty calls when a VF comes.
  for (const call of [0, 3, 7, 12]) {
    const gate = `${temporary()}/gate`;
    const fault: Fault = { thread: 'twinpath-super', call, gate, dies: true };
    expect(await process.open(lab, fault)).toEqual({ opened: true });
    writeFileSync(gate, '');
    await lab.nic.plug();
    await until('a closed port', async () => (await process.ask('look')).closed);
    const { errors } = await process.ask('look');
    expect(errors.at(-1)).toMatchObject({ code: 'ERR_WORKER', message: /the supervisor died/ });
    await sameAsBefore(lab, process, before, fault);
    await lab.nic.unplug();
  }
});

test('`twinpath run` ends with status 1 when its port has closed by itself, and says why', async () => {
  const lab = await buildLab();
  const { opening } = await warm(lab, OrderedPort.start());
  const fault: Fault = dying(opening + 60, { thereafter: 10 });
  const program = [process.execPath, ...PRELOAD, join(ROOT, 'dist/src/cli/main.js'), 'run', 'echo'];
  const where = ['--netns', lab.guest, '--netvsc', lab.nic.netvsc, '--force', '--queues', String(lab.queues)];
  const handler = ['--option', `address=${lab.nic.guestAddress}`];
  const env = { ...process.env, FAULTY_SHIM: faultyShim(), FAULT: JSON.stringify(fault) };
  const { code, stderr } = await new Run([...program, ...where, ...handler], { env }).outcome;
  expect({ code, stderr }).toMatchObject({ code: 1 });
  expect(stderr).toMatch(/the kernel has its interfaces back/);
  await nothingLeft(lab);
});
