/** What a device is and can do, as this kernel reports it. */
import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { deviceCounters } from '../../src/kernel/device-counters.ts';
import { deviceInformation } from '../../src/kernel/device-information.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { kernelIsAtLeast } from '../../src/kernel/machine.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { NetdevNetlink } from '../../src/kernel/netdev-netlink.ts';
import { type Link, RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { privileged } from '../support/requirements.ts';

const HERE = `tp-info-${process.pid}`;
const shim = loadShim();

function ip(...words: string[]): void {
  const run = spawnSync('ip', words, { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(`ip ${words.join(' ')}: ${run.stderr}`);
}

interface Sockets {
  readonly links: RtNetlink;
  readonly ethtool: EthtoolNetlink;
  readonly netdev: NetdevNetlink;
}
let sockets: Sockets;

beforeEach(
  privileged(() => {
    ip('netns', 'add', HERE);
    const queues = ['numrxqueues', '3', 'numtxqueues', '2'];
    ip('-n', HERE, 'link', 'add', 'one', ...queues, 'type', 'veth', 'peer', 'name', 'two');
    ip('-n', HERE, 'link', 'set', 'one', 'up');
    sockets = inNamespace(shim, HERE, () => ({
      links: RtNetlink.open(shim),
      ethtool: EthtoolNetlink.open(shim),
      netdev: NetdevNetlink.open(shim),
    }));
  }),
);
afterEach(
  privileged(() => {
    for (const socket of Object.values(sockets)) socket.close();
    ip('netns', 'del', HERE);
  }),
);

const linkOf = (name: string): Link => sockets.links.link(name)!;
/** The driver is asked by an ioctl on a socket of the thread's namespace. */
const describeNow = (link: Link) => inNamespace(shim, HERE, () => deviceInformation(sockets, link));

it('a veth is described by its driver, queues, MTU range, offloads and XDP', () => {
  const link = linkOf('one');
  const { ethtool } = sockets;
  ethtool.setFeatures(link.ifindex, new Map([['rx-vlan-hw-parse', false]]));
  const device = describeNow(link);
  expect(device).toMatchObject({
    ...{ device: 'one', mac: link.address, driver: 'veth', firmware: '', bus: '', rings: undefined },
    mtu: { current: 1500, min: 68, max: 65_535 },
    queues: { maxRx: 3, maxTx: 2 },
    offloads: { rxVlan: { on: false, fixed: false }, rxVlanFilter: { on: false, fixed: true } },
  });
  expect(device.xdp).toEqual(
    kernelIsAtLeast(6, 3) ? expect.objectContaining({ zeroCopy: false }) : undefined,
  );
  expect(device.xdp?.native ?? true).toBe(true);
});

it('the link of a device is down until its peer is up, and has no speed before', () => {
  expect(describeNow(linkOf('one')).link).toEqual({ up: false, speedMbps: undefined, duplex: undefined });
  ip('-n', HERE, 'link', 'set', 'two', 'up');
  expect(describeNow(linkOf('one')).link).toEqual({ up: true, speedMbps: 10_000, duplex: 'full' });
});

it('a device that was renamed after its link was read is described all the same', () => {
  const link = linkOf('one');
  ip('-n', HERE, 'link', 'set', 'one', 'down');
  ip('-n', HERE, 'link', 'set', 'one', 'name', 'uno');
  ip('-n', HERE, 'link', 'set', 'two', 'name', 'one');
  expect(describeNow(link)).toMatchObject({ driver: 'veth', queues: { maxRx: 3, maxTx: 2 } });
});

it('a device that is gone is described as far as its link was known', () => {
  const link = linkOf('one');
  ip('-n', HERE, 'link', 'del', 'one');
  expect(describeNow(link)).toMatchObject({
    ...{ device: 'one', driver: '', offloads: {}, xdp: undefined },
    queues: { maxRx: 3, maxTx: 2 },
  });
});

it('a veth counts by the names of the kernel and of its driver, under any name that it has', () => {
  const { ifindex } = linkOf('one');
  ip('-n', HERE, 'link', 'set', 'one', 'down');
  ip('-n', HERE, 'link', 'set', 'one', 'name', 'uno');
  const counters = inNamespace(shim, HERE, () => deviceCounters(shim, sockets.links, ifindex))!;
  expect(counters).toMatchObject({ key: ifindex, link: { rx_packets: 0, tx_dropped: 0 } });
  expect(counters.driver).toMatchObject({ peer_ifindex: linkOf('two').ifindex, rx_queue_2_xdp_packets: 0 });
  ip('-n', HERE, 'link', 'del', 'uno');
  expect(inNamespace(shim, HERE, () => deviceCounters(shim, sockets.links, ifindex))).toBeUndefined();
});
