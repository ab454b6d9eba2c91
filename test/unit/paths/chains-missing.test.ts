/** A VF of a port with jumbo frames whose kernel has no chains of descriptors. */
import { expect, it } from 'vitest';
import { initial } from '../../../src/configuration.ts';
import { LinkChanges } from '../../../src/coordinator/link-changes.ts';
import type { EthtoolNetlink } from '../../../src/kernel/ethtool-netlink.ts';
import type { Link } from '../../../src/kernel/rtnetlink.ts';
import type { SettingsStore } from '../../../src/kernel/settings-store.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { AfXdpDevice } from '../../../src/paths/af-xdp/device.ts';

const VF = { ifindex: 7, name: 'vf0', address: '02:00:00:00:00:01', mtu: 1500 } as Link;
const WANTED = initial({});

/** @param chains whether the kernel has them */
function opened(chains: number, frameSize = 16_384): { device: AfXdpDevice; longest: () => number } {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize, framesPerWorker: 64, ringEntries: 64 },
  });
  const slot = memory.slot({ port: 0, queue: 0, path: Path.VF });
  slot.chains = chains;
  const device = new AfXdpDevice({} as Shim, memory, 0, Path.VF, VF, {
    ...{ rss: 'software', rssKey: new Uint8Array(40), store: {} as SettingsStore },
    ethtool: {} as EthtoolNetlink,
  });
  return { device, longest: () => slot.maxPacketBytes };
}

it('refuses an MTU that needs them, with the reason, and no other', () => {
  const without = opened(0).device;
  expect(without.configure({ ...WANTED, mtu: 3817 })).toEqual([]);
  const [refusal] = without.configure({ ...WANTED, mtu: 3818 });
  expect(refusal).toMatchObject({ code: 'ERR_DEVICE_SETTINGS', device: 'vf0' });
  expect(refusal!.message).toMatch(/3818.*3817.*multi-buffer AF_XDP needs Linux 6\.17/);
  expect(without.description.refused).toEqual([refusal!.message]);
  expect(opened(1).device.configure({ ...WANTED, mtu: 9000 })).toEqual([]);
});

it('sends no packet that needs them, whatever the MTU is that others give it', () => {
  const [without, with_] = [opened(0), opened(1)];
  for (const { device } of [without, with_]) {
    device.noticed({ ...VF, mtu: 9000 });
    device.configure(WANTED);
  }
  expect(without.longest()).toBe(4096 - 256);
  expect(with_.longest()).toBe(9018);
});

it('has a longer MTU that others give it told, as one that a chunk does not serve', () => {
  const since = (vfFrame: number | undefined): string | undefined => {
    const changes = new LinkChanges(16_384, () => vfFrame);
    changes.opened(Path.VF, VF);
    return changes.since(Path.VF, { ...VF, mtu: 9000 })[0]!.error?.message;
  };
  expect(since(opened(0).device.usedFrame)).toMatch(/MTU is 9000.*4096 bytes serves one up to 3817/);
  expect(since(opened(1).device.usedFrame)).toBeUndefined();
});
