/**
 * A stopped queue of a VF: a veth's queues, sockets and XDP program, whose RSS is a model's. The model does not steer the
 * veth's packets, so some come to the stopped queue all the same.
 */
import { expect, it, onTestFinished } from 'vitest';
import { changed, checkChange, initial } from '../../src/configuration.ts';
import { check } from '../../src/errors.ts';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { SettingsStore } from '../../src/kernel/settings-store.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { attach } from '../../src/paths/attach.ts';
import { DEFAULT_KEY } from '../../src/rss/key.ts';
import { RssDevice } from '../models/rss-device.ts';
import { buildLab, type Lab, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';
import { Peer } from '../support/peers.ts';

const QUEUES = 4;
const FLOWS = 32;
const PORT = 2222;

/** The veth's own settings, and the model's RSS. */
function ethtoolOf(lab: Lab, rss: RssDevice): EthtoolNetlink {
  const shim = loadShim();
  const real = inNamespace(shim, lab.guest, () => EthtoolNetlink.open(shim));
  onTestFinished(() => real.close());
  const both: Partial<EthtoolNetlink> = {
    shim: rss.shim,
    has: () => false,
    channels: (ifindex) => real.channels(ifindex),
    setChannels: (ifindex, counts) => real.setChannels(ifindex, counts),
    features: (ifindex) => real.features(ifindex),
    setFeatures: (ifindex, change) => real.setFeatures(ifindex, change),
  };
  return both as EthtoolNetlink;
}

/** Datagrams that have reached the guest's own stack. */
function listen(lab: Lab): () => number {
  const shim = loadShim();
  const fd = inNamespace(shim, lab.guest, () => check(shim.socket(2, 2 | 0o4000 | 0o2000000, 0), 'socket'));
  onTestFinished(() => void shim.close(fd));
  const name = new DataView(new ArrayBuffer(16));
  name.setUint16(0, 2, true);
  name.setUint16(2, PORT);
  check(shim.bind(fd, name, 16), 'bind');
  const room = new Uint8Array(2048);
  let seen = 0;
  return () => {
    while (shim.recv(fd, room, room.length, 0) >= 0) seen++;
    return seen;
  };
}

it.each([
  ['passes on what comes to it where the kernel can use it', true],
  ['keeps its socket where the kernel would drop that', false],
])('a queue that is stopped gets no flows, %s, and no packet is lost', async (_, passes) => {
  const lab = await buildLab({ queues: QUEUES });
  await lab.nic.plug();
  const shim = loadShim();
  const link = linkIn(lab.guest, 'vf0')!;
  const sender = inNamespace(shim, lab.host, () => EthtoolNetlink.open(shim));
  sender.setChannels(linkIn(lab.host, 'v0')!.ifindex, { combined: 0, rx: QUEUES, tx: QUEUES });
  sender.close();
  const peer = await Peer.start(lab.outside);
  const reached = listen(lab);
  await lab.nic.moveDataPath('vf');

  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 256, ringEntries: 128 },
  });
  const rss = new RssDevice({ queues: QUEUES, ifindex: link.ifindex });
  const own = rss.state();
  const device = inNamespace(shim, lab.guest, () => {
    const made = new AfXdpDevice(shim, memory, 0, Path.VF, link, {
      ...{
        rss: 'device',
        rssKey: DEFAULT_KEY,
        ethtool: ethtoolOf(lab, rss),
        store: SettingsStore.open(shim),
      },
      ...(passes ? { netvsc: link.ifindex } : {}),
    });
    made.open();
    return made;
  });
  onTestFinished(() => device.close());
  const queues = Array.from({ length: QUEUES }, (_, queue) => {
    const pool = new FramePool(memory, queue);
    const attached = attach({ shim, memory, pool }, { port: 0, queue, path: Path.VF })!;
    pool.owners.recover([attached]);
    attached.refill();
    return attached;
  });
  const got = (): number[] => queues.map(({ rx }) => rx.ready(128));
  const all = (): number => got().reduce((a, b) => a + b, 0) + reached();
  let sent = 0;
  const send = async (): Promise<void> => {
    for (let flow = 0; flow < FLOWS; flow++)
      await peer.call('send', lab.nic.guestAddress, PORT, 4000 + flow, 0, 1, 64);
    sent += FLOWS;
    await until('every packet', () => all() === sent);
  };
  let configuration = initial({});
  const configure = (change: Parameters<typeof checkChange>[0]): void => {
    configuration = changed(configuration, checkChange(change, 2048, QUEUES));
    expect(device.configure(configuration)).toEqual([]);
    device.stopQueues();
  };

  configure({});
  device.arm();
  await send();
  const first = got();
  expect(reached()).toBe(0);
  const stopped = first.indexOf(Math.max(...first));
  expect(first[stopped]).toBeGreaterThan(0);

  configure({ queues: [0, 1, 2, 3].filter((queue) => queue !== stopped) });
  expect(new Set(rss.table)).toEqual(new Set([0, 1, 2, 3].filter((queue) => queue !== stopped)));
  await send();
  const twice = first.map((packets) => 2 * packets);
  expect(got()).toEqual(passes ? twice.with(stopped, first[stopped]!) : twice);
  expect(reached()).toBe(passes ? first[stopped] : 0);

  configure({ queues: null });
  expect(rss.state()).toEqual(own);
  const before = got();
  await send();
  expect(got()).toEqual(before.map((packets, queue) => packets + first[queue]!));
  expect(device.dropped(0).rxUnclaimed).toBe(0);
});
