/** A VF whose driver refuses native XDP: a veth does, beside an other end with a large MTU. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { Errno } from '../../src/errors.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { SettingsStore } from '../../src/kernel/settings-store.ts';
import { loadShim, type Shim } from '../../src/kernel/shim.ts';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { buildLab, owners, passed, Scene, until } from '../support/harness.ts';
import { attachments } from '../support/machine-state.ts';

const BPF_LINK_CREATE = 28;

const LARGE = { lab: { mtu: 3800 }, port: { frameSize: 4096 } } as const;
const WHY = /^native XDP was refused \(ERANGE|errno 34.*, the kernel says ".*MTU.*"\)/;

describe('a VF whose driver refuses native XDP', () => {
  it('is driven by generic XDP, and the obstacle to native XDP is reported', async () => {
    const scene = await Scene.open(LARGE);
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    expect(scene.paths.vf).toMatchObject({ mode: 'generic copy', generic: expect.stringMatching(WHY) });
    expect(scene.paths.vf?.generic).toContain('Lower the MTU, 3800 now');
    expect(scene.news.filter(({ path, state }) => path === 'vf' && state === 'up')).toMatchObject([
      { detail: scene.paths.vf?.generic },
    ]);
    await scene.unplug();
    await scene.finish();
    expect(scene.errors).toEqual([]);
  });

  it('is left out where only native XDP will do, with the reason and the way out', async () => {
    const scene = await Scene.open({ ...LARGE, port: { ...LARGE.port, xdp: 'native' } });
    const traffic = await scene.drive();
    await scene.nic.plug();
    await until('the refusal', () => scene.errors.length > 0);
    expect(scene.errors.splice(0)).toMatchObject([
      {
        ...{ code: 'ERR_DEVICE_SETTINGS', device: scene.nic.vf, syscall: 'bpf(LINK_CREATE, XDP)' },
        ...{ detail: expect.stringMatching(WHY), hint: expect.stringContaining("xdp: 'any'") },
      },
    ]);
    await passed(traffic);
    expect(owners(scene.port).every((owner) => owner === 'synthetic')).toBe(true);
    expect(attachments(scene.lab.guest).filter((line) => line.startsWith('XDP'))).toEqual([]);
    await scene.nic.unplug();
    await scene.finish();
  });
});

it('a VF whose driver runs native XDP serves where only that will do', async () => {
  const scene = await Scene.open({ port: { xdp: 'native' } });
  await scene.drive();
  await scene.plug();
  expect(scene.paths.vf).toMatchObject({ mode: 'native copy' });
  expect(scene.paths.vf).not.toHaveProperty('generic');
  await scene.unplug();
  await scene.finish();
  expect(scene.errors).toEqual([]);
});

/** The shim, whose first attempts to attach anything fail as where a driver refuses. */
function refusing(attempts: number): Shim {
  let left = attempts;
  const shim = loadShim();
  return {
    ...shim,
    bpf: (command, ...rest) =>
      command === BPF_LINK_CREATE && left-- > 0 ? Errno.EINVAL : shim.bpf(command, ...rest),
  };
}

it('a driver that takes the program when it is asked why it did not serves with native XDP', async () => {
  const lab = await buildLab({ queues: 1 });
  await lab.nic.plug();
  const geometry = { pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 1024 };
  const memory = Memory.create({ ...geometry, ringEntries: 256 });
  const shim = refusing(1);
  inNamespace(shim, lab.guest, () => {
    const netlink = RtNetlink.open(shim);
    const ethtool = EthtoolNetlink.open(shim);
    const link = netlink.link(lab.nic.vf!)!;
    const asked = { rss: 'device', rssKey: new Uint8Array(40), ethtool, netlink } as const;
    const device = new AfXdpDevice(shim, memory, 0, Path.VF, link, {
      ...asked,
      store: SettingsStore.open(shim),
    });
    onTestFinished(() => {
      device.close();
      netlink.close();
      ethtool.close();
    });
    device.open();
    expect(device.description).toMatchObject({ mode: 'native copy' });
    expect(device.description.generic).toBeUndefined();
  });
});
