/** Packets that a handler has made longer than the path sends: none of them holds up those behind it. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { inNamespace } from '../../dist/src/kernel/namespace.js';
import { loadShim } from '../../dist/src/kernel/shim.js';
import { addsUp, buildLab, type Lab, type Nic, owners, type Port, Scene, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

const STRETCHING = new URL('../fixtures/handlers/stretching.mjs', import.meta.url);
const [TX, FORWARD] = [1, 2];

const ip = (namespace: string, ...words: string[]): void =>
  void execFileSync('ip', ['-n', namespace, ...words]);

/** Datagrams from the outside host, one for each length: to come back that long, or to leave by another port. */
function send(lab: Lab, lengths: readonly number[], verdict = TX, target = 0): void {
  const shim = loadShim();
  inNamespace(shim, lab.outside, () => {
    const fd = shim.socket(2, 2, 0);
    const to = lab.nic.guestAddress.split('.').map(Number);
    expect(shim.connect(fd, Uint8Array.of(2, 0, 0, 7, ...to, ...new Uint8Array(8)), 16)).toBe(0);
    for (const length of lengths) {
      const payload = Uint8Array.of(length >> 8, length & 255, verdict, target, ...new Uint8Array(20));
      expect(shim.send(fd, payload, payload.length, 0)).toBe(payload.length);
    }
    shim.close(fd);
  });
}

/** Frames that have come to the outside host by this NIC. */
const outside = (lab: Lab, nic: Nic = lab.nic): number =>
  linkIn(lab.outside, `u${nic.number}`)!.statistics!.rxPackets;

async function open(
  lab: Lab,
  path: 'vf' | 'synthetic',
  options: NonNullable<Parameters<typeof Scene.openIn>[1]> = {},
): Promise<Scene> {
  const scene = await Scene.openIn(lab, { queues: 1, handler: STRETCHING, handlerOptions: {}, ...options });
  if (path === 'vf') await scene.plug();
  return scene;
}

/** Each of these packets has been received and is in a counter. */
async function settled(port: Port, received: number): Promise<void> {
  await until('all packets', () => port.stats().received === received);
  await addsUp(port);
}

describe.each([
  { path: 'vf', options: {} },
  { path: 'synthetic', options: {} },
  { path: 'synthetic', options: { tap: 'read/write' } },
  { path: 'synthetic', options: { redirect: 'clsact' } },
  { path: 'synthetic', options: { host: 'inline' } },
] as const)('a port on its $path path, opened with $options', ({ path, options }) => {
  it('drops what is longer than the MTU allows under a counter, sends the rest, and follows a new MTU', async () => {
    const lab = await buildLab({ queues: 1 });
    const scene = await open(lab, path, options);
    const { port } = scene;
    const counted = () => {
      const { dropped, paths } = port.stats();
      const { txPackets, txErrors, txRetried } = paths[path];
      return { tooLong: dropped.tooLong, txPackets, lost: txErrors + txRetried };
    };
    const before = outside(lab);
    send(lab, [60, 1514, 1518, 1519, 1700, 1792, 1793, 61]);
    await settled(port, 8);
    expect(counted()).toEqual({ tooLong: 3, txPackets: 4, lost: 0 });
    expect(port.stats().dropped.badLength).toBe(1);
    await until('what was sent', () => outside(lab) === before + 4);

    const device = path === 'vf' ? lab.nic.vf! : lab.nic.netvsc;
    ip(lab.guest, 'link', 'set', device, 'mtu', '1000');
    // A packet too long for the new MTU only: until it is refused the port has not heard of it.
    let sent = 8;
    await until('the smaller MTU', async () => {
      send(lab, [1300]);
      await settled(port, ++sent);
      return counted().tooLong === 4;
    });
    const then = counted();
    send(lab, [1018, 1019]);
    await settled(port, sent + 2);
    expect(counted()).toEqual({ ...then, tooLong: 5, txPackets: then.txPackets + 1 });

    ip(lab.guest, 'link', 'set', device, 'mtu', '1500');
    sent += 2;
    await until('the larger MTU', async () => {
      const { txPackets } = counted();
      send(lab, [1518]);
      await settled(port, ++sent);
      return counted().txPackets > txPackets;
    });
    await scene.whole();
    expect(owners(port)).toEqual([path]);
    await scene.close();
  });
});

it('a packet that only the other end of the VF refuses is an error, and those behind it go', async () => {
  const lab = await buildLab({ queues: 1 });
  const scene = await open(lab, 'vf');
  ip(lab.host, 'link', 'set', 'v0', 'mtu', '1000');
  const before = outside(lab);
  send(lab, [60, 1400, 61, 62, 1300, 1301, 63]);
  await settled(scene.port, 7);
  const { txErrors, txPackets, txRetried } = scene.port.stats().paths.vf;
  expect({ txErrors, txPackets }).toEqual({ txErrors: 3, txPackets: 4 });
  expect(txRetried).toBeGreaterThan(0);
  await until('what was sent', () => outside(lab) === before + 4);
  expect(owners(scene.port)).toEqual(['vf']);
  await scene.whole();
  await scene.close();
  expect(scene.errors).toEqual([]);
});

it('a VF whose other end refuses all there is to send is left, and the rest goes by the synthetic path', async () => {
  const lab = await buildLab({ queues: 1 });
  const scene = await open(lab, 'vf');
  ip(lab.host, 'link', 'set', 'v0', 'mtu', '1000');
  const before = outside(lab);
  send(lab, Array(20).fill(1400));
  await settled(scene.port, 20);
  const left = scene.port.failovers().find(({ from }) => from === 'vf')!;
  expect(left).toMatchObject({ to: 'synthetic', reason: 'kick failed', rescued: 17 });
  await until('the rest', () => outside(lab) === before + 17);
  const { paths } = scene.port.stats();
  expect([paths.vf.txErrors, paths.vf.txRescued, paths.synthetic.txPackets]).toEqual([3, 17, 17]);
  await until('the news', () => scene.news.some(({ path, state }) => path === 'vf' && state === 'down'));
  expect(scene.news.find(({ state }) => state === 'down')).toMatchObject({ detail: 'kick failed (EBUSY)' });
  await scene.whole();
  await scene.close();
});

it.each(['vf', 'synthetic'] as const)(
  'what is forwarded to a port with a smaller MTU on its %s path is dropped there, and counted',
  async (path) => {
    const lab = await buildLab({ nics: 2, queues: 1 });
    const scene = await open(lab, 'synthetic');
    const [from, to] = scene.ports;
    const nic = lab.nics[1]!;
    if (path === 'vf') {
      await nic.plug();
      await until('the other VF', () => owners(to!)[0] === 'vf');
    }
    ip(lab.guest, 'link', 'set', path === 'vf' ? nic.vf! : nic.netvsc, 'mtu', '1000');
    // Until the port has heard of it.
    let sent = 0;
    await until('the smaller MTU', async () => {
      send(lab, [1300], FORWARD, 1);
      await until('the packet', () => from!.stats().forwarded === sent + 1);
      sent++;
      await addsUp(to!);
      return to!.stats().dropped.tooLong > 0;
    });
    const before = to!.stats();
    send(lab, [60, 1018, 1019, 1400, 61], FORWARD, 1);
    await until('all packets', () => from!.stats().forwarded === sent + 5);
    await addsUp(from!);
    await addsUp(to!);
    expect(to!.stats().dropped.tooLong).toBe(before.dropped.tooLong + 2);
    expect(to!.stats().paths[path].txPackets).toBe(before.paths[path].txPackets + 3);
    expect(to!.stats().paths[path].txRetried).toBe(0);
    await scene.close();
  },
);

it('a VF with a smaller MTU than the NetVSC is told, once, with what to do about it', async () => {
  const lab = await buildLab({ queues: 1 });
  const scene = await open(lab, 'vf');
  ip(lab.guest, 'link', 'set', lab.nic.vf!, 'mtu', '1400');
  await until('the report', () => scene.errors.length > 0);
  ip(lab.guest, 'link', 'set', lab.nic.vf!, 'txqueuelen', '77'); // another message about it
  await scene.port.audit(); // an order that the coordinator answers behind that message
  expect(scene.errors).toMatchObject([
    { code: 'ERR_OPTION_INVALID', device: lab.nic.vf, detail: expect.stringContaining('its MTU is 1400') },
  ]);
  expect(scene.errors[0]!.hint).toContain('mtu 1500');
  expect(owners(scene.port)).toEqual(['vf']);
  ip(lab.guest, 'link', 'set', lab.nic.vf!, 'mtu', '1500');
  await scene.unplug();
  scene.errors.length = 0;
  await scene.close();
  expect(scene.errors).toEqual([]);
});
