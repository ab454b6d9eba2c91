/** Devices come back as others: another name, another ifindex, another namespace, another host. */
import { describe, expect, it } from 'vitest';
import { kernelIsAtLeast } from '../../dist/src/kernel/machine.js';
import { ip } from '../../dist/src/lab/namespaces.js';
import {
  expectUnharmed,
  monotonicNanos,
  ownedBy,
  owners,
  passed,
  Scene,
  unexplained,
  until,
} from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';

/** Before Linux 6.2 a device is renamed while it is down: then it goes, and comes back. */
const RENAMED_DOWN = !kernelIsAtLeast(6, 2);

describe('a port', () => {
  it('takes the VF back under any name and ifindex, and loses nothing', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    const seen: number[] = [];
    for (const name of ['enP30832p0s2', 'vf0', 'eth7']) {
      await scene.plug(name);
      await passed(traffic);
      expect(scene.paths.vf).toMatchObject({ device: name, driver: 'af-xdp' });
      seen.push(linkIn(scene.lab.guest, name)!.ifindex);
      await scene.unplug();
    }
    expect(new Set(seen).size).toBe(3);
    const [report] = await scene.finish();
    expectUnharmed(report!);
  });

  it('is not disturbed when udev renames the VF, or somebody the NetVSC', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug('vf0');
    await passed(traffic);
    const before = scene.port.failovers().length;
    const moves: [number, number][] = [];
    if (RENAMED_DOWN) await scene.nic.moveDataPath('synthetic');
    const from = monotonicNanos();
    scene.nic.renameVf('enP1s2np0');
    if (RENAMED_DOWN) {
      // The device drops what it is given until the coordinator learns that it is down.
      await until('the VF left', () => scene.port.failovers().length >= before + 2);
      moves.push([from, monotonicNanos()]);
      await until('the VF taken back', () => scene.port.failovers().length >= before + 4);
      await scene.nic.moveDataPath('vf');
    }
    await passed(traffic);
    const openings = (): number =>
      scene.news.filter(({ path, state }) => path === 'synthetic' && state === 'up').length;
    const opened = openings();
    scene.nic.renameNetvsc('hv0');
    // Until then what the host delivers to the NetVSC is the machine's.
    if (RENAMED_DOWN) await until('the NetVSC taken back', () => openings() > opened);
    await passed(traffic);
    if (!RENAMED_DOWN) expect(scene.port.failovers()).toHaveLength(before);
    expect(owners(scene.port)).toEqual(['vf', 'vf']);
    await scene.unplug();
    await passed(traffic);
    await scene.plug('vf0');
    await passed(traffic);
    const [report] = await scene.finish();
    if (RENAMED_DOWN) expect(unexplained(report!, moves), scene.story(from)).toEqual([]);
    else expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it('lets a VF go that is moved to another namespace, and takes it when it comes back', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    const moves: [number, number][] = [];
    for (let round = 0; round < 2; round++) {
      await passed(traffic);
      await scene.nic.moveDataPath('synthetic');
      const from = monotonicNanos();
      scene.nic.moveVf(scene.lab.outside);
      await ownedBy(scene.port, 'synthetic');
      moves.push([from, monotonicNanos()]);
      await passed(traffic);
      await until('the VF let go', () => linkIn(scene.lab.outside, 'vf0')?.xdpProgram === 0);
      scene.nic.moveVf(scene.lab.guest);
      await ownedBy(scene.port, 'vf');
      await scene.nic.moveDataPath('vf');
    }
    await passed(traffic);
    const [report] = await scene.finish();
    expect(unexplained(report!, moves)).toEqual([]);
    expect(scene.errors).toEqual([]);
  });

  it('goes through a live migration: no VF, no carrier, another VF', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const from = monotonicNanos();
    await scene.nic.migrate();
    const to = monotonicNanos();
    await ownedBy(scene.port, 'vf');
    await scene.nic.moveDataPath('vf');
    const { rxPackets } = scene.port.stats().paths.vf;
    await passed(traffic);
    expect(scene.paths.vf?.device).toBe('mvf0');
    expect(scene.port.stats().paths.vf.rxPackets).toBeGreaterThan(rxPackets);
    const [report] = await scene.finish();
    expect(unexplained(report!, [[from, to]])).toEqual([]);
    expect(scene.errors).toEqual([]);
  });

  it('says so when the NetVSC itself is deleted, and serves the next one with that MAC', async () => {
    const scene = await Scene.open();
    const traffic = await scene.drive();
    await scene.plug();
    await passed(traffic);
    const { guest, host } = scene.lab;
    ip(['link del eth0'], guest);
    await ownedBy(scene.port, 'none');
    await until('news of it', () =>
      scene.news.some(({ path, state }) => path === 'synthetic' && (state === 'gone' || state === 'down')),
    );
    ip(
      [
        `link add s0 type veth peer name eth0 netns ${guest} address ${scene.nic.mac} numtxqueues 2 numrxqueues 2`,
        'link set s0 master br0',
        'link set s0 up',
      ],
      host,
    );
    ip(['link set eth0 up'], guest);
    await ownedBy(scene.port, 'vf');
    await until('both paths', () => scene.paths.synthetic !== undefined);
    await passed(traffic);
    await scene.whole();
    await scene.finish();
  });
});

describe('two ports in one process', () => {
  it('fail over each alone', async () => {
    const scene = await Scene.open({ lab: { nics: 2 } });
    const [first, second] = scene.ports as [typeof scene.port, typeof scene.port];
    const [one, two] = scene.lab.nics as [typeof scene.nic, typeof scene.nic];
    const load = { rate: 8000, window: 120 };
    const traffic = [await scene.drive(load, one), await scene.drive(load, two)];
    const both = (): Promise<unknown> => Promise.all(traffic.map((each) => passed(each, 300)));
    await scene.plug(undefined, one, first);
    await both();
    expect([owners(first), owners(second)]).toEqual([
      ['vf', 'vf'],
      ['synthetic', 'synthetic'],
    ]);
    await scene.plug(undefined, two, second);
    await both();
    for (let round = 0; round < 2; round++) {
      const quiet = second.failovers().length;
      await scene.unplug(one, first);
      await both();
      expect(owners(second)).toEqual(['vf', 'vf']);
      await scene.plug('other0', one, first);
      await both();
      expect(second.failovers()).toHaveLength(quiet);
      await scene.whole();
    }
    const quiet = first.failovers().length;
    const from = monotonicNanos();
    two.surprise();
    await two.hostNotices();
    await ownedBy(second, 'synthetic');
    const to = monotonicNanos();
    await both();
    expect(first.failovers()).toHaveLength(quiet);
    expect(owners(first)).toEqual(['vf', 'vf']);
    const [whole, hurt] = await scene.finish();
    expectUnharmed(whole!);
    expect(unexplained(hurt!, [[from, to]])).toEqual([]);
  });
});
