/** What becomes of packets to and from the machine's own stack is in one counter each, and no frame is lost. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { openPort, type PortStatistics } from '../../dist/src/index.js';
import type { DropReason } from '../../dist/src/statistics.js';
import { addsUp, buildLab, type Lab, nothingLeft, Scene, until } from '../support/harness.ts';
import { kernelView } from '../support/kernel-view.ts';
import { Station } from '../support/stations.ts';

const HOST = new URL('../../dist/src/handlers/host.js', import.meta.url);
const BY_PORT = new URL('../fixtures/handlers/host-by-port.mjs', import.meta.url);
const PACKETS = 20;

/** The drop reasons that count something. */
function drops({ dropped }: PortStatistics): Record<string, number> {
  return Object.fromEntries(Object.entries(dropped).filter(([, packets]) => packets > 0));
}

async function stations(lab: Lab): Promise<{ guest: Station; outside: Station }> {
  const [guest, outside] = await Promise.all([Station.start(lab.guest), Station.start(lab.outside)]);
  return { guest, outside };
}

describe('a port with host off', () => {
  it('is refused on the interface of the default route unless the machine may be cut off', async () => {
    const lab = await buildLab();
    const route = (verb: string): void =>
      void execFileSync('ip', ['-n', lab.guest, 'route', verb, 'default', 'via', lab.nic.outsideAddress]);
    const options = {
      ...{ netns: lab.guest, netvsc: lab.nic.netvsc, force: true, queues: 1, handler: HOST },
    };
    route('add');
    const view = kernelView(lab.guest);
    await expect(openPort({ ...options, host: 'off' })).rejects.toMatchObject({
      ...{ code: 'ERR_DEVICE_IN_USE', device: 'eth0' },
    });
    await nothingLeft(lab);
    await (await openPort({ ...options, host: 'off', cutHost: true })).close();
    expect(kernelView(lab.guest)).toEqual(view);
    route('del');
    await (await openPort({ ...options, host: 'off' })).close();
    await nothingLeft(lab);
  });

  it('drops what the handler passes, and counts each', async () => {
    const lab = await buildLab();
    const { outside } = await stations(lab);
    const scene = await Scene.openIn(lab, { handler: HOST, host: 'off' });
    const { port } = scene;
    expect(port.paths.host).toBeUndefined();
    await outside.call('datagrams', lab.nic.guestAddress, 53, PACKETS, 100);
    await until('all of them', () => port.stats().dropped.noHost >= PACKETS);
    const stats = port.stats();
    expect(drops(stats)).toEqual({ noHost: stats.received });
    expect(stats).toMatchObject({ passed: 0, fromHost: 0, transmitted: 0 });
    await scene.finish();
  });
});

describe('a packet of the machine’s own stack', () => {
  it('is counted by its verdict, like a packet from the network', async () => {
    const lab = await buildLab();
    const { guest, outside } = await stations(lab);
    const scene = await Scene.openIn(lab, { handler: BY_PORT, host: 'inline' });
    const { port } = scene;
    const { guestAddress, outsideAddress } = lab.nic;
    for (const [from, address] of [
      [guest, outsideAddress],
      [outside, guestAddress],
    ] as const) {
      const before = port.stats().dropped;
      for (const to of [7001, 7002, 7003, 7004, 7005]) {
        await from.call('datagrams', address, to, PACKETS, 100);
      }
      const now = (): [reason: string, packets: number][] =>
        Object.entries(port.stats().dropped)
          .map(([reason, packets]): [string, number] => [reason, packets - before[reason as DropReason]])
          .filter(([, packets]) => packets > 0);
      await until('all of them', () => now().reduce((sum, [, packets]) => sum + packets, 0) >= 4 * PACKETS);
      // One that is too long is no frame of the network’s, and cannot be made one of the host’s.
      const long = from === guest ? 'uncut' : 'badLength';
      expect(Object.fromEntries(now())).toEqual({
        ...{ verdict: 2 * PACKETS, handlerError: PACKETS, [long]: PACKETS },
      });
    }
    expect(port.stats().handlerErrors).toBe(2 * PACKETS);
    expect(await outside.call('ask', guestAddress, 3)).toEqual({ asked: 3, wrong: 0 });
    expect(await guest.call('ask', outsideAddress, 3)).toEqual({ asked: 3, wrong: 0 });
    await scene.finish();
  });

  it('that no frame can hold, after the MTU was raised, is counted and not sent in part', async () => {
    const lab = await buildLab({ mtu: 3000 });
    const mtu = (bytes: number): void =>
      void execFileSync('ip', ['-n', lab.guest, 'link', 'set', lab.nic.netvsc, 'mtu', `${bytes}`]);
    mtu(1500);
    const { guest } = await stations(lab);
    const scene = await Scene.openIn(lab, { handler: HOST, host: 'inline' });
    const { port } = scene;
    mtu(3000);
    await guest.call('datagrams', lab.nic.outsideAddress, 7001, PACKETS, 2500);
    await until('all of them', () => port.stats().dropped.uncut >= PACKETS);
    await addsUp(port);
    expect(drops(port.stats())).toEqual({ uncut: PACKETS });
    expect(port.stats()).toMatchObject({ fromHost: PACKETS, transmitted: 0 });
    await scene.finish();
  });
});
