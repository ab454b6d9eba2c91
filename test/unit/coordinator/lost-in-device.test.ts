/** What a VF had no buffer for, by its own count. */
import { expect, it } from 'vitest';
import { KernelDrops } from '../../../src/coordinator/kernel-drops.ts';
import type { EthtoolNetlink } from '../../../src/kernel/ethtool-netlink.ts';
import { IFLA, parseLink } from '../../../src/kernel/link.ts';
import type { Link, RtNetlink } from '../../../src/kernel/rtnetlink.ts';
import type { SettingsStore } from '../../../src/kernel/settings-store.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { kernelCounters } from '../../../src/memory/counters.ts';
import { Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { AfXdpDevice } from '../../../src/paths/af-xdp/device.ts';

/** The payload of a RTM_NEWLINK: ifinfomsg, then struct rtnl_link_stats64, whose words are the given ones. */
function withStatistics(words: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(16 + 4 + words.length * 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(16, 4 + words.length * 8, true);
  view.setUint16(18, IFLA.STATS64, true);
  for (const [i, word] of words.entries()) view.setBigUint64(20 + i * 8, BigInt(word), true);
  return bytes;
}

it('the number of packets lost in a device is word 16 of its link’s statistics', () => {
  const words = Array.from({ length: 24 }, (_, i) => 100 + i);
  expect(parseLink(withStatistics(words))?.statistics).toMatchObject({ rxDropped: 106, rxMissed: 115 });
  expect(parseLink(withStatistics(words.slice(0, 15)))?.statistics).toBeUndefined();
});

it('packets lost in a device are counted from the opening of the path, over all its openings, and the count stays after the device has gone', () => {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  let missed: number | undefined;
  const netlink = { link: () => missed !== undefined && { statistics: { rxMissed: missed } } };
  const link = { ifindex: 7, name: 'vf0', mtu: 1500 } as Link;
  const device = (missedBefore: number): AfXdpDevice => {
    const made = new AfXdpDevice({} as Shim, memory, 0, Path.VF, link, {
      ...{ rss: 'software', rssKey: new Uint8Array(40), store: {} as SettingsStore },
      ethtool: {} as EthtoolNetlink,
      netlink: netlink as unknown as RtNetlink,
    });
    return made.adopt({ ...made.holdings, missedBefore });
  };
  const drops = new KernelDrops(memory, 0, Path.VF);
  const counted = (): number[] =>
    [0, 1].map((queue) => memory.doubles[kernelCounters(memory, 0, queue, Path.VF).lostInDevice]!);
  const first = device(40);
  missed = 47;
  drops.read(first);
  expect(counted()).toEqual([7, 0]);
  missed = undefined;
  drops.settle(first);
  expect(counted()).toEqual([7, 0]);
  const second = device(0);
  missed = 2;
  drops.read(second);
  expect(counted()).toEqual([9, 0]);
});
