/** Verdicts over the kernel's own devices. */
import { expect, it } from 'vitest';
import type { Port } from '../../dist/src/index.js';
import { buildLab, type Nic, ownedBy, passed, Scene } from '../support/harness.ts';

const FATEFUL = new URL('../fixtures/handlers/fateful-echo.mjs', import.meta.url);
const FIRST_PORT = 20_000;

/** Fates of flows 0 to 7. */
const [DROP, TX, FORWARD, PASS, DELIVER, UNKNOWN] = [0, 1, 2, 3, 4, 99];
const FATES = [TX, TX, TX, DROP, UNKNOWN, FORWARD, PASS, DELIVER];

it.each(['io_uring', 'read/write'] as const)(
  'each verdict goes its way through failovers of either port, the tap driven by %s',
  async (tap) => {
    const lab = await buildLab({ nics: 2 });
    const scene = await Scene.openIn(lab, {
      ...{ tap, handler: FATEFUL },
      handlerOptions: { address: lab.nics.map(({ guestAddress }) => guestAddress), fates: FATES },
    });
    const [from, to] = scene.ports;
    // By flow, the sequence numbers that the application has read: see lab/udp.ts.
    const read: number[] = [];
    const reading = (async () => {
      for await (const { data } of from!.packets()) {
        expect([data.readUInt16BE(36), data.readUInt32BE(50)]).toEqual([FIRST_PORT + 7, 7]);
        read.push(data.readUInt32BE(54));
      }
    })();
    // Most are never answered: the window is no limit.
    const traffic = await scene.drive({ flows: 8, firstPort: FIRST_PORT, rate: 4_000, window: 100_000 });
    for (const port of [from!, to!, from!]) {
      const nic = lab.nics[scene.ports.indexOf(port)]!;
      if (port === from) await scene.plug();
      else await plugOther(nic, port);
      await passed(traffic, 100);
      await scene.unplug(nic, port);
      await passed(traffic, 100);
      await scene.whole();
    }
    const [report] = await scene.finish();
    await reading;
    const here = from!.stats();
    const back = report!.flows.map(({ lost, sent }) => sent - lost);
    report!.flows.forEach(({ sent, lost, reordered }, flow) => {
      expect({ flow, lost, reordered }).toEqual({ flow, lost: flow < 3 ? 0 : sent, reordered: 0 });
    });
    expect(back.slice(3)).toEqual([0, 0, 0, 0, 0]);
    const sent = report!.flows.map((flow) => flow.sent);
    expect(here.dropped).toMatchObject({ noPort: 0, noHost: 0, hostFull: 0, deliverFull: 0, txFull: 0 });
    expect(here).toMatchObject({ forwarded: sent[5], passed: sent[6], delivered: sent[7] });
    expect(to!.stats().queues.reduce((all, { accepted }) => all + accepted, 0)).toBe(sent[5]);
    expect(read).toEqual(Array.from({ length: sent[7]! }, (_, i) => i));
  },
);

/** The VF of a port that has no traffic of its own to follow the data path. */
async function plugOther(nic: Nic, port: Port): Promise<void> {
  await nic.plug();
  await ownedBy(port, 'vf');
}

it('what is forwarded to a VF with fewer queues than the port goes on through its failovers', async () => {
  const lab = await buildLab({ nics: 2, queues: 1 });
  const scene = await Scene.openIn(lab, {
    ...{ queues: 2, rss: 'software', handler: FATEFUL },
    handlerOptions: {
      address: lab.nics.map(({ guestAddress }) => guestAddress),
      fates: [TX, FORWARD, FORWARD, FORWARD],
    },
  });
  const [from, to] = scene.ports;
  const traffic = await scene.drive({ flows: 32, firstPort: FIRST_PORT, rate: 4_000, window: 100_000 });
  for (let cycle = 0; cycle < 2; cycle++) {
    await plugOther(lab.nics[1]!, to!);
    await passed(traffic, 300);
    await scene.unplug(lab.nics[1]!, to!);
    await passed(traffic, 300);
    await scene.whole();
  }
  const [report] = await scene.finish();
  const lost = report!.flows.map((flow) => flow.lost);
  expect(lost).toEqual(report!.flows.map(({ sent }, flow) => (flow % 4 === 0 ? 0 : sent)));
  const { queues, paths, dropped } = to!.stats();
  expect(queues.map(({ accepted }) => accepted > 0)).toEqual([true, true]);
  expect(paths.vf.txPackets).toBeGreaterThan(0);
  expect(dropped).toMatchObject({ noPath: 0, txFull: 0 });
  expect(queues.reduce((all, { accepted }) => all + accepted, 0)).toBe(from!.stats().forwarded);
});
