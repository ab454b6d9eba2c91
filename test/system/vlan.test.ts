/** VLAN tags: the same bytes by either path, there and back, whatever the VF would do with them by itself. */
import { describe, expect, it, onTestFinished } from 'vitest';
import type { DeliveredPacket } from '../../dist/src/delivered-burst.js';
import { EthtoolNetlink } from '../../src/kernel/ethtool-netlink.ts';
import { inNamespace } from '../../src/kernel/namespace.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { buildLab, type Lab, ownedBy, Scene, until } from '../support/harness.ts';
import { linkIn } from '../support/machine-state.ts';
import { frame, rawSocket } from '../support/raw.ts';

const BY_FIRST_BYTE = new URL('../fixtures/handlers/by-first-byte.mjs', import.meta.url);
const OUTSIDE_MAC = '02:15:5d:77:00:01';
/** Local experimental EtherType: no stack looks into it. */
const TYPE = '88b5';
const TAGS = {
  'no tag': TYPE,
  'a tag of VLAN 5': `8100 0005 ${TYPE}`,
  'a tag of priority 7 and VLAN 4094': `8100 effe ${TYPE}`,
  'a tag of VLAN 0': `8100 6000 ${TYPE}`,
  'a service tag': `88a8 0007 ${TYPE}`,
  'a tag within a service tag': `88a8 0007 8100 0005 ${TYPE}`,
  'three tags': `8100 0001 8100 0002 8100 0003 ${TYPE}`,
};
const PARSES = 'rx-vlan-hw-parse';

/** Settings of a device in the guest, until the test is over. */
function guestEthtool(lab: Lab): EthtoolNetlink {
  const shim = loadShim();
  const ethtool = inNamespace(shim, lab.guest, () => EthtoolNetlink.open(shim));
  onTestFinished(() => ethtool.close());
  return ethtool;
}

describe.each([
  ['veth', []],
  ['veth', ['rule', 'time', 'hash']],
  ['bridge', ['checksum']],
] as const)('a port over a %s with the metadata %j', (standIn, metadata) => {
  it('gives a handler the bytes that were sent, and sends those it answers with, by either path', async () => {
    const lab = await buildLab({ standIn });
    const outside = rawSocket(lab.outside, 'u0');
    const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE, metadata });
    const { nic, port } = scene;
    const delivered: DeliveredPacket[] = [];
    const reading = (async () => {
      for await (const packet of port.packets()) delivered.push(packet);
    })();
    let number = 0;
    const sent: { path: string; text: string; tags: string }[] = [];
    const exchange = async (path: 'synthetic' | 'vf'): Promise<void> => {
      for (const tags of Object.values(TAGS)) {
        const text = `${++number} by ${path}`;
        sent.push({ path, text, tags });
        const [seen, before] = [delivered.length, port.stats().paths[path].rxPackets];
        outside.send(frame(nic.mac, OUTSIDE_MAC, tags, `D${text}`));
        outside.send(frame(nic.mac, OUTSIDE_MAC, tags, `T${text}`));
        await until(`frame ${number}`, () => delivered.length > seen);
        await until('both counted', () => port.stats().paths[path].rxPackets >= before + 2);
      }
    };
    await exchange('synthetic');
    await scene.plug();
    await exchange('vf');
    await scene.unplug();
    await exchange('synthetic');

    const answers: Buffer[] = [];
    await until('every answer', () => {
      answers.push(...outside.received());
      return answers.length >= sent.length;
    });
    await scene.finish();
    await reading;
    const wanted = sent.map(({ tags, text }) =>
      frame(nic.mac, OUTSIDE_MAC, tags, `D${text}`).toString('latin1'),
    );
    expect(delivered.map(({ data }) => Buffer.from(data).toString('latin1'))).toEqual(wanted);
    const back = sent.map(({ tags, text }) =>
      frame(OUTSIDE_MAC, nic.mac, tags, `T${text}`).toString('latin1'),
    );
    expect(answers.map((bytes) => bytes.toString('latin1'))).toEqual(back);
  });
});

it('a tagged frame that is passed by the VF reaches no socket of a machine without that VLAN', async () => {
  const lab = await buildLab();
  const outside = rawSocket(lab.outside, 'u0');
  const inside = rawSocket(lab.guest, 'eth0');
  const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE });
  await scene.plug();
  outside.send(frame(scene.nic.mac, OUTSIDE_MAC, TAGS['a tag of VLAN 5'], 'Ptagged'));
  outside.send(frame(scene.nic.mac, OUTSIDE_MAC, TYPE, 'Pplain'));
  const seen: string[] = [];
  await until('both', () => {
    seen.push(...inside.received().map((bytes) => bytes.toString('hex').slice(24, 36)));
    return seen.length >= 2;
  });
  // The packet socket is beside the stack: what matters is that the kernel knows the tag.
  expect(seen).toEqual(['8100000588b5', `88b5${Buffer.from('Ppla').toString('hex')}`]);
  await scene.finish();
});

describe('a VF that would take tags out of frames, or drop VLANs', () => {
  it('does not while the port is open, and does again afterwards', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    const ethtool = guestEthtool(lab);
    const { ifindex } = linkIn(lab.guest, 'vf0')!;
    const before = ethtool.features(ifindex)!;
    expect(before.active).toContain(PARSES);
    // One of them is off already, and has to stay off.
    ethtool.setFeatures(ifindex, new Map([['rx-vlan-stag-hw-parse', false]]));
    const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE });
    await ownedBy(scene.port, 'vf');
    const { active } = ethtool.features(ifindex)!;
    expect([...active].filter((name) => name.startsWith('rx-vlan'))).toEqual([]);
    expect(scene.paths.vf).toMatchObject({ vlanTags: 'as the other end sends them' });
    await scene.close();
    const after = ethtool.features(ifindex)!;
    expect(after.active).toContain(PARSES);
    expect(after.active).not.toContain('rx-vlan-stag-hw-parse');
    expect(scene.errors).toEqual([]);
  });

  it('is reported again when another program enables it, and keeps that setting at the end', async () => {
    const lab = await buildLab();
    await lab.nic.plug();
    const ethtool = guestEthtool(lab);
    const { ifindex } = linkIn(lab.guest, 'vf0')!;
    ethtool.setFeatures(ifindex, new Map([[PARSES, false]]));
    const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE });
    await ownedBy(scene.port, 'vf');
    const failovers = scene.port.failovers().length;
    ethtool.setFeatures(ifindex, new Map([[PARSES, true]]));
    await until('the report', () => scene.errors.length > 0);
    expect(ethtool.features(ifindex)!.active).not.toContain(PARSES);
    expect(scene.errors.map(({ code, device }) => [code, device])).toEqual([['ERR_DEVICE_SETTINGS', 'vf0']]);
    expect(scene.errors[0]!.message).toContain(PARSES);
    expect(scene.port.failovers()).toHaveLength(failovers);
    await scene.close();
    expect(ethtool.features(ifindex)!.active).toContain(PARSES);
  });
});

it('a handler gets the VLANs that rules name, on both paths, and others from the moment on when these are named', async () => {
  const lab = await buildLab();
  const outside = rawSocket(lab.outside, 'u0');
  const configuration = { rules: ['vlan 5 to handler'], isolate: true };
  const scene = await Scene.openIn(lab, { handler: BY_FIRST_BYTE, configuration });
  const { nic, port } = scene;
  const delivered: string[] = [];
  const reading = (async () => {
    for await (const { data } of port.packets())
      delivered.push(/\d+ \w+/.exec(Buffer.from(data).toString('latin1'))![0]);
  })();
  const tags = new Map([
    ['five', `8100 0005 ${TYPE}`],
    ['six', `8100 0006 ${TYPE}`],
    ['none', TYPE],
  ]);
  let number = 0;
  /** One frame of each, those last that are to come: when they have, the others have been looked at. */
  const exchange = async (...wanted: string[]): Promise<void> => {
    const seen = delivered.length;
    const others = [...tags.keys()].filter((name) => !wanted.includes(name));
    const texts = [...others, ...wanted].map((name) => {
      const text = `${++number} ${name}`;
      outside.send(frame(nic.mac, OUTSIDE_MAC, tags.get(name)!, `D${text}`));
      return text;
    });
    await until('the frames that were asked for', () => delivered.length >= seen + wanted.length);
    expect(delivered.slice(seen)).toEqual(texts.slice(-wanted.length));
  };
  await exchange('five');
  await port.rules.set(['vlan 6 to handler', 'vlan none to handler']);
  await exchange('six', 'none');
  await scene.plug();
  await exchange('six', 'none');
  await port.rules.set(['vlan 5 to handler']);
  await exchange('five');
  await scene.unplug();
  await exchange('five');
  await port.rules.set(['vlan 5 to handler', 'vlan 6 to handler']);
  await scene.plug();
  await exchange('five', 'six');
  await scene.finish();
  await reading;
});
