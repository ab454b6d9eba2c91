/** What a port answers about its devices: what they are, what they can do, what they count. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openPort } from '../../dist/src/port.js';
import { passed, Scene, until } from '../support/harness.ts';

const DROP = new URL('../../dist/src/handlers/drop.js', import.meta.url);

describe('port.information', () => {
  it('describes the NetVSC and the VF while it is there, and how its path runs', async () => {
    const scene = await Scene.open();
    const { port, nic } = scene;
    const alone = await port.information();
    expect(alone).toMatchObject({
      synthetic: { device: nic.netvsc, mac: nic.mac, driver: 'veth', path: { driver: 'tap' } },
      capability: { mtu: { min: 68, max: 1765 }, nativeXdp: { has: false, reason: 'there is no VF now' } },
    });
    expect(alone.vf).toBeUndefined();
    await scene.plug();
    const { vf, capability } = await port.information();
    expect(vf).toMatchObject({
      ...{ device: nic.vf, driver: 'veth', queues: { rx: 2, tx: 2 } },
      offloads: { rxVlan: { on: false, fixed: false } },
      path: { driver: 'af-xdp', mode: expect.stringMatching(/^native copy/) },
      link: port.link,
    });
    expect(capability.nativeXdp).toEqual({ has: true });
    expect(capability.zeroCopy).toMatchObject({ has: false, reason: expect.stringContaining(nic.vf!) });
    await scene.unplug();
    await until('no VF', async () => (await port.information()).vf === undefined);
    await scene.close();
    await expect(port.information()).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
  });

  it('is refused for a NetVSC that is gone, and the port lives on', async () => {
    const scene = await Scene.open();
    const { port, nic, lab } = scene;
    execFileSync('ip', ['-n', lab.guest, 'link', 'del', nic.netvsc]);
    const code = (): Promise<string> =>
      port.information().then(
        () => '',
        ({ code }) => code,
      );
    await until('the port knows', async () => (await code()) === 'ERR_DEVICE_NOT_FOUND');
    expect(port.link.up).toBe(false);
    await port.close();
  });
});

describe('port.extendedStats', () => {
  it('has what kernel and drivers count of each path, which no failover decreases', async () => {
    const scene = await Scene.open();
    const { port } = scene;
    const traffic = await scene.drive();
    /** One number per counter, with its path and kind. */
    const read = async (): Promise<Map<string, number>> => {
      const paths = Object.entries(await port.extendedStats());
      return new Map(
        paths.flatMap(([path, kinds]) =>
          Object.entries({ ...kinds }).flatMap(([kind, counters]) =>
            Object.entries(counters).map(([name, value]) => [`${path} ${kind} ${name}`, value] as const),
          ),
        ),
      );
    };
    let before = await read();
    expect(before.get('synthetic link rx_packets')).toBeGreaterThan(0);
    expect([...before.keys()].filter((name) => name.startsWith('vf'))).toEqual([]);
    const notFallen = async (): Promise<void> => {
      const now = await read();
      const fallen = [...before].filter(([name, value]) => !((now.get(name) ?? -1) >= value));
      expect(fallen).toEqual([]);
      before = now;
    };
    let least = 1;
    for (let cycle = 0; cycle < 3; cycle++) {
      await scene.plug();
      await passed(traffic, 200);
      await notFallen();
      expect(before.get('vf link rx_packets')).toBeGreaterThanOrEqual(least);
      expect([...before.keys()].filter((name) => name.startsWith('vf driver rx_queue_0'))).not.toEqual([]);
      least = before.get('vf link rx_packets')!;
      await scene.unplug();
      await passed(traffic, 100);
      await notFallen();
    }
    await scene.finish();
    await expect(port.extendedStats()).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
  });
});

it('port.stats has what was counted since an earlier reading', async () => {
  const scene = await Scene.open();
  const { port } = scene;
  const traffic = await scene.drive();
  const before = port.stats();
  await passed(traffic, 300);
  await traffic.stop({ settleMillis: 200 });
  const since = port.stats(before);
  const now = port.stats();
  expect(since.received).toBe(now.received - before.received);
  expect(since.received).toBeGreaterThan(0); // some of those that came back were received before
  expect(now.received).toBeGreaterThan(before.received);
  expect(since.queues.map(({ queue, owner }) => [queue, owner])).toEqual([
    [0, 'synthetic'],
    [1, 'synthetic'],
  ]);
  await scene.close();
});

describe('a port in memory', { tags: 'unprivileged' }, () => {
  it('has no devices to describe, and none that count', async () => {
    const port = await openPort({ network: 'memory', handler: DROP, queues: 1 });
    onTestFinished(() => port.close());
    await expect(port.information()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    const none = { link: {}, driver: {}, filtered: 0 };
    expect(await port.extendedStats()).toEqual({ synthetic: none, vf: none });
  });
});
