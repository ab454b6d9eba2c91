/** Settings of a VF: followed while the port is open, given back to the right device afterwards, also after a kill. */
import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { check } from '../../src/errors.ts';
import { type ChannelCounts, EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { namespaceId, SettingsStore } from '../../src/kernel/settings-store.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { ip } from '../../src/lab/namespaces.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { AfXdpDevice } from '../../src/paths/af-xdp/device.ts';
import { attach } from '../../src/paths/attach.ts';
import { Merging } from '../../src/paths/tap/merging.ts';
import { buildLab, expectUnharmed, type Lab, ownedBy, passed, Scene, until } from '../support/harness.ts';
import { hold, kill } from '../support/held.ts';
import { linkIn } from '../support/machine-state.ts';
import { Peer } from '../support/peers.ts';

const FIREWALL = new URL('../../dist/src/handlers/firewall.js', import.meta.url);
const FOLDER = '/run/twinpath';

function guestEthtool(lab: Lab): EthtoolNetlink {
  const shim = loadShim();
  const ethtool = inNamespace(shim, lab.guest, () => EthtoolNetlink.open(shim));
  onTestFinished(() => ethtool.close());
  return ethtool;
}

/** Plugs a VF of four queues in that the switch sends to on fewer, as native XDP demands. Resolves with its ifindex. */
async function plug(lab: Lab, senders = 2, receivers = 4): Promise<number> {
  await lab.nic.plug();
  expect(sendersOf(lab, senders, receivers)).toBe(true);
  return index(lab);
}

/** Sets how many queues the switch's end sends on; false if the kernel refuses. */
function sendersOf(lab: Lab, senders: number, receivers = 4): boolean {
  const shim = loadShim();
  const ethtool = inNamespace(shim, lab.host, () => EthtoolNetlink.open(shim));
  const counts = { combined: 0, rx: receivers, tx: senders };
  const result = ethtool.setChannels(linkIn(lab.host, 'v0')!.ifindex, counts);
  ethtool.close();
  return result === 0;
}

/** A UDP socket of the guest's own stack: how many datagrams have reached it so far. */
function listen(lab: Lab, port: number): () => number {
  const shim = loadShim();
  const fd = inNamespace(shim, lab.guest, () => check(shim.socket(2, 2 | 0o4000 | 0o2000000, 0), 'socket'));
  onTestFinished(() => void shim.close(fd));
  const name = new DataView(new ArrayBuffer(16)); // struct sockaddr_in: family, port, address 0
  name.setUint16(0, 2, true);
  name.setUint16(2, port);
  check(shim.bind(fd, name, 16), 'bind');
  const room = new Uint8Array(2048);
  let seen = 0;
  return () => {
    while (shim.recv(fd, room, room.length, 0) >= 0) seen++;
    return seen;
  };
}

const index = (lab: Lab, name = 'vf0'): number => linkIn(lab.guest, name)!.ifindex;
const counts = (ethtool: EthtoolNetlink, ifindex: number): ChannelCounts => {
  const { combined, rx, tx } = ethtool.channels(ifindex)!;
  return { combined, rx, tx };
};
/** What is saved of the guest's devices. What killed ports of other labs have left names other namespaces. */
function saved(lab: Lab): string[] {
  const id = inNamespace(loadShim(), lab.guest, () => namespaceId(loadShim()));
  return existsSync(FOLDER) ? readdirSync(FOLDER).filter((file) => file.startsWith(`netns-${id}-`)) : [];
}

describe('channels of the VF', () => {
  it('of which there were fewer than the port has queues are as few again', async () => {
    const lab = await buildLab({ queues: 2 });
    const vf = await plug(lab, 1, 2);
    const ethtool = guestEthtool(lab);
    expect(ethtool.setChannels(vf, { combined: 0, rx: 1, tx: 1 })).toBe(0);
    const scene = await Scene.openIn(lab);
    await ownedBy(scene.port, 'vf');
    expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 2, tx: 2 });
    await scene.close();
    expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 1, tx: 1 });
    expect(saved(lab)).toEqual([]);
  });

  it('that others change under load are set back, without a failover or a loss, and are theirs at the end', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab);
    const ethtool = guestEthtool(lab);
    const scene = await Scene.openIn(lab, { queues: 2 });
    await ownedBy(scene.port, 'vf');
    expect(scene.paths.vf).toMatchObject({ mode: 'native copy' });
    await lab.nic.moveDataPath('vf');
    const traffic = await scene.drive();
    expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 2, tx: 2 });
    const failovers = scene.port.failovers().length;
    const changes = [
      { combined: 0, rx: 4, tx: 4 },
      { combined: 0, rx: 2, tx: 4 },
      { combined: 0, rx: 3, tx: 3 },
    ];
    for (const change of changes) {
      const told = scene.errors.length;
      expect(ethtool.setChannels(vf, change)).toBe(0);
      await until('the report', () => scene.errors.length > told);
      expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 2, tx: 2 });
      await passed(traffic);
    }
    expect(scene.port.failovers()).toHaveLength(failovers);
    expect(scene.errors.map(({ code, device }) => [code, device])).toEqual(
      changes.map(() => ['ERR_DEVICE_SETTINGS', 'vf0']),
    );
    await scene.finish();
    expect(counts(ethtool, vf)).toEqual(changes.at(-1));
    expect(saved(lab)).toEqual([]);
  });

  it('that are added again and again let nothing go round the handler', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab, 4);
    const [peer, ethtool] = [await Peer.start(lab.outside), guestEthtool(lab)];
    const reached = listen(lab, 2222);
    const scene = await Scene.openIn(lab, {
      ...{ queues: 1, handler: FIREWALL, handlerOptions: { deny: 'udp/2222', allow: '0.0.0.0/0' } },
    });
    await ownedBy(scene.port, 'vf');
    await lab.nic.moveDataPath('vf');
    for (let round = 0; round < 20; round++) {
      expect(ethtool.setChannels(vf, { combined: 0, rx: 4, tx: 4 })).toBe(0);
      await peer.call('send', lab.nic.guestAddress, 2222, 4000 + round, 0, 16, 64);
    }
    // While its rings are made anew the device loses packets, which is its own affair: wait for what comes after those.
    await until('its channels as the port has them', () => ethtool.channels(vf)?.rx === 1);
    const { rxPackets } = scene.port.stats().paths.vf;
    await until('packets behind them', async () => {
      await peer.call('send', lab.nic.guestAddress, 2222, 4999, 0, 4, 64);
      return scene.port.stats().paths.vf.rxPackets > rxPackets;
    });
    expect(reached()).toBe(0);
    await scene.finish();
  });

  it('that are added and cannot be taken away again have the path opened anew, and then nothing goes round it', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab, 1);
    const [peer, ethtool] = [await Peer.start(lab.outside), guestEthtool(lab)];
    const reached = listen(lab, 2222);
    const scene = await Scene.openIn(lab, {
      ...{ queues: 1, handler: FIREWALL, handlerOptions: { deny: 'udp/2222', allow: '0.0.0.0/0' } },
    });
    await ownedBy(scene.port, 'vf');
    expect(scene.paths.vf).toMatchObject({ mode: 'native copy' });
    await lab.nic.moveDataPath('vf');
    // The switch sends on four queues before the port can have the VF receive on one again: a veth refuses then.
    for (let tries = 0; !sendersOf(lab, 4); tries++) {
      expect(tries).toBeLessThan(1000);
      ethtool.setChannels(vf, { combined: 0, rx: 4, tx: 4 });
    }
    await until('the path opened anew', () => scene.paths.vf?.mode === 'generic copy');
    await ownedBy(scene.port, 'vf');
    expect(scene.errors.map(({ code }) => code)).toContain('ERR_DEVICE_SETTINGS');
    for (let flow = 0; flow < 8; flow++) {
      await peer.call('send', lab.nic.guestAddress, 2222, 4000 + flow, 0, 8, 64);
    }
    await until('all of them dropped', () => scene.port.stats().dropped.verdict >= 64);
    expect(reached()).toBe(0);
    await scene.finish();
  });

  it('are given back to the VF that was renamed, and another one with its old name is not touched', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab);
    const ethtool = guestEthtool(lab);
    const scene = await Scene.openIn(lab, { queues: 2 });
    await ownedBy(scene.port, 'vf');
    lab.nic.renameVf('enP1s2');
    ip(
      [
        'link add vf0 numrxqueues 4 numtxqueues 4 type veth peer name far0 numrxqueues 4 numtxqueues 4',
        'link set vf0 address 02:00:00:00:99:01',
      ],
      lab.guest,
    );
    const stranger = index(lab);
    const theirs = [counts(ethtool, stranger), ethtool.features(stranger)];
    await until('the new name', () =>
      scene.news.some(({ state, device }) => state === 'changed' && device === 'enP1s2'),
    );
    await scene.close();
    expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 4, tx: 4 });
    expect([counts(ethtool, stranger), ethtool.features(stranger)]).toEqual(theirs);
    expect(saved(lab)).toEqual([]);
  });
});

describe('a packet on a receive queue without a socket', () => {
  it('is dropped and counted while the path is armed, and the machine has it before and afterwards', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab, 4);
    const [peer, ethtool] = [await Peer.start(lab.outside), guestEthtool(lab)];
    const reached = listen(lab, 2222);
    await lab.nic.moveDataPath('vf');
    const shim = loadShim();
    const memory = Memory.create({
      ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 256, ringEntries: 128 },
    });
    const device = inNamespace(shim, lab.guest, () => {
      const options = { rss: 'device', rssKey: new Uint8Array(40), ethtool } as const;
      const store = SettingsStore.open(shim);
      const made = new AfXdpDevice(shim, memory, 0, Path.VF, linkIn(lab.guest, 'vf0')!, {
        ...options,
        store,
      });
      made.open();
      return made;
    });
    onTestFinished(() => device.close());
    const pool = new FramePool(memory, 0);
    const queue = attach({ shim, memory, pool }, { port: 0, queue: 0, path: Path.VF })!;
    pool.owners.recover([queue]);
    queue.refill();
    expect(ethtool.setChannels(vf, { combined: 0, rx: 4, tx: 4 })).toBe(0);
    const send = async (): Promise<void> => {
      for (let flow = 0; flow < 32; flow++) {
        await peer.call('send', lab.nic.guestAddress, 2222, 4000 + flow, 0, 2, 64);
      }
    };
    await send();
    await until('the machine to have all', () => reached() === 64);
    device.arm();
    await send();
    await until('all counted', () => queue.rx.ready(128) + device.dropped(0).rxUnclaimed === 64);
    const { rxUnclaimed } = device.dropped(0);
    expect(rxUnclaimed).toBeGreaterThan(0);
    expect(rxUnclaimed).toBeLessThan(64);
    expect(reached()).toBe(64);
    device.disarm();
    await send();
    await until('the machine to have all again', () => reached() === 128);
    expect(device.dropped(0).rxUnclaimed).toBe(rxUnclaimed);
  });
});

describe('a killed process', () => {
  it.each([
    ['the same name', 'vf0'],
    ['another name, which another device has now', 'enP1s2'],
  ])('leaves channels and features that the next port puts back: %s', async (_, name) => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab);
    const ethtool = guestEthtool(lab);
    const original = [counts(ethtool, vf), ethtool.features(vf)];
    const held = await hold(lab);
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    const changed = [counts(ethtool, vf), ethtool.features(vf)];
    expect(changed).not.toEqual(original);
    await kill(held);
    expect([counts(ethtool, vf), ethtool.features(vf)]).toEqual(changed);
    expect(saved(lab)).toHaveLength(1);

    let theirs: unknown;
    if (name !== 'vf0') {
      lab.nic.renameVf(name);
      ip(['link add vf0 numrxqueues 2 numtxqueues 2 type veth peer name far0'], lab.guest);
      theirs = [counts(ethtool, index(lab)), ethtool.features(index(lab))];
    }
    const scene = await Scene.openIn(lab, { queues: 2 });
    await ownedBy(scene.port, 'vf');
    expect(counts(ethtool, vf)).toEqual({ combined: 0, rx: 2, tx: 2 });
    await scene.close();
    expect([counts(ethtool, vf), ethtool.features(vf)]).toEqual(original);
    if (name !== 'vf0') expect([counts(ethtool, index(lab)), ethtool.features(index(lab))]).toEqual(theirs);
    expect(saved(lab)).toEqual([]);
    expect(scene.errors).toEqual([]);
  });

  it('leaves settings that the next start puts back also when it opens another NIC', async () => {
    const lab = await buildLab({ queues: 4, nics: 2 });
    const vf = await plug(lab);
    const ethtool = guestEthtool(lab);
    const original = [counts(ethtool, vf), ethtool.features(vf)];
    const held = await hold(lab);
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    await kill(held);
    await until('the program gone', () => linkIn(lab.guest, 'vf0')!.xdpProgram === 0);
    lab.nics.shift(); // the scene opens the other one
    const scene = await Scene.openIn(lab, { queues: 2 });
    expect([counts(ethtool, vf), ethtool.features(vf)]).toEqual(original);
    await scene.close();
    expect(saved(lab)).toEqual([]);
  });

  it('leaves nothing to put back where somebody has set the device up anew since', async () => {
    const lab = await buildLab({ queues: 4 });
    const vf = await plug(lab);
    const ethtool = guestEthtool(lab);
    const held = await hold(lab);
    await until('the VF in use', () => held.said().endsWith('vf vf\n'));
    await kill(held);
    const theirs = { combined: 0, rx: 3, tx: 3 };
    expect(ethtool.setChannels(vf, theirs)).toBe(0);
    const scene = await Scene.openIn(lab, { queues: 2 });
    await ownedBy(scene.port, 'vf');
    await scene.close();
    expect(counts(ethtool, vf)).toEqual(theirs);
    expect(saved(lab)).toEqual([]);
  });
});

describe('what the NetVSC merges', () => {
  it('is off while a port is open, and as it was after a kill and the next port', async () => {
    const lab = await buildLab();
    const ethtool = guestEthtool(lab);
    const link = linkIn(lab.guest, 'eth0')!;
    const isOn = (): boolean => ethtool.features(link.ifindex)!.active.has('rx-gro-list');
    const store = inNamespace(loadShim(), lab.guest, () => SettingsStore.open(loadShim()));
    const told: unknown[] = [];
    // No stand-in has LRO: what it has that can be switched off goes the same way.
    const options = { ethtool, store, report: (error: unknown) => told.push(error) };
    const open = (): Merging => new Merging(link, options, ['rx-lro', 'rx-gro-list']);
    expect(ethtool.setFeatures(link.ifindex, new Map([['rx-gro-list', true]]))).toBe(0);
    open().stop(); // and its process is gone
    expect([isOn(), saved(lab)]).toEqual([false, [expect.stringMatching(/-netvsc\.json$/)]]);
    const next = open();
    next.stop();
    expect(isOn()).toBe(false);
    next.restore();
    expect([isOn(), saved(lab), told]).toEqual([true, [], []]);
  });
});

describe('the MAC address of the NetVSC', () => {
  it('that is changed while the port is open is the one that the handler answers with', async () => {
    const lab = await buildLab();
    const scene = await Scene.openIn(lab);
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const owners = scene.port.failovers().length;
    const mac = '02:15:5d:77:aa:02';
    for (const device of ['s0', 'v0']) ip([`link set ${device} type bridge_slave flood on`], lab.host);
    ip([`link set s0 type bridge_slave flood off`], lab.host);
    // As hv_netvsc does it: first the VF's, then its own.
    ip([`link set vf0 address ${mac}`, `link set eth0 address ${mac}`], lab.guest);
    ip([`neigh replace ${lab.nic.guestAddress} lladdr ${mac} dev u0 nud permanent`], lab.outside);
    await until('the port to know', () => scene.port.mac === mac);
    await passed(traffic);
    expect(scene.port.failovers()).toHaveLength(owners);
    const told = scene.news
      .filter(({ state }) => state === 'changed')
      .map(({ path, device }) => [path, device]);
    expect(told.sort()).toEqual([
      ['synthetic', 'eth0'],
      ['vf', 'vf0'],
    ]);
    ip([`link set v0 type bridge_slave flood off`, `link set s0 type bridge_slave flood on`], lab.host);
    await passed(traffic); // now by the synthetic path
    await scene.finish();
  });
});

describe('an MTU', () => {
  it('that is raised beyond what frames hold is told, with what becomes of longer packets, and they are counted', async () => {
    const lab = await buildLab();
    const peer = await Peer.start(lab.outside);
    const scene = await Scene.openIn(lab);
    const traffic = await scene.drive();
    await passed(traffic);
    for (const device of ['s0', 'br0', 'p0']) ip([`link set ${device} mtu 9000`], lab.host);
    ip(['link set eth0 mtu 1600'], lab.guest);
    await until('the news', () => scene.news.some(({ detail }) => detail?.includes('1600')));
    expect(scene.errors).toEqual([]);
    ip(['link set eth0 mtu 9000'], lab.guest);
    await until('the error', () => scene.errors.length > 0);
    expect(scene.errors[0]).toMatchObject({ code: 'ERR_DEVICE_SETTINGS', device: 'eth0' });
    expect(scene.errors[0]!.message).toMatch(/MTU is 9000.*rxTooLong.*frameSize: 16384/);
    ip(['link set u0 mtu 9000'], lab.outside);
    await peer.call('send', lab.nic.guestAddress, 4000, 4001, 0, 10, 5000);
    await until('them counted', () => scene.port.stats().paths.synthetic.rxTooLong === 10);
    await passed(traffic);
    const [report] = await scene.finish();
    expectUnharmed(report!);
  });
});
