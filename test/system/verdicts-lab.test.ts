/** Verdicts and handlers that do not return, over the kernel's own devices. */
import { describe, expect, it } from 'vitest';
import type { Port } from '../../dist/src/index.js';
import { BURST } from '../../src/memory/layout.ts';
import {
  buildLab,
  type Nic,
  ownedBy,
  passed,
  Scene,
  type Traffic,
  type TrafficReport,
  until,
} from './harness.ts';

const FATEFUL = new URL('../fixtures/handlers/fateful-echo.mjs', import.meta.url);
const FIRST_PORT = 20_000;

const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * count));

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
  const traffic = await scene.drive({ flows: 32, firstPort: FIRST_PORT, window: 100_000 });
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
  const [orders, seen] = [words(2), words(250)];
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
      Atomics.store(orders, 0, 1);
      deaths++;
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
