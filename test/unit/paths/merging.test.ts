/** What a NetVSC merges is off while a port is open, and as it was afterwards, also after a kill. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { TwinpathError } from '../../../src/errors.ts';
import type { EthtoolNetlink } from '../../../src/kernel/ethtool-netlink.ts';
import type { RtNetlink } from '../../../src/kernel/rtnetlink.ts';
import { SettingsStore } from '../../../src/kernel/settings-store.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { putBackOrphans } from '../../../src/paths/orphans.ts';
import { Merging } from '../../../src/paths/tap/merging.ts';
import { link } from '../../support/machine.ts';

const MAC = '00:0d:3a:44:55:00';
/** The VF first, as a dump of links may have them. */
const VF = link({
  ifindex: 3,
  name: 'enP1s0',
  permanentAddress: MAC,
  parentBus: 'pci',
  parentDevice: '1:0.0',
});
const NETVSC = link({
  ifindex: 7,
  name: 'eth0',
  permanentAddress: MAC,
  parentBus: 'vmbus',
  parentDevice: 'a',
});

/** Features of devices, by ifindex: what can be changed, what is wanted, and what the driver keeps on. */
class Device {
  readonly changeable: Set<string>;
  readonly wanted: Set<string>;
  readonly stubborn: Set<string>;
  refuses = 0;
  readonly writes: string[] = [];

  constructor(changeable: string[], wanted: string[], stubborn: string[] = []) {
    this.changeable = new Set(changeable);
    this.wanted = new Set(wanted);
    this.stubborn = new Set(stubborn);
  }

  get active(): Set<string> {
    return new Set([...this.wanted, ...this.stubborn]);
  }
}

/** Not asked for anything: no link was configured. */
const netlink = {} as RtNetlink;

function ethtoolOf(devices: Record<number, Device>): EthtoolNetlink {
  const fake: Pick<EthtoolNetlink, 'features' | 'setFeatures' | 'channels' | 'has' | 'shim'> = {
    // No system call about RSS is answered.
    has: () => false,
    shim: { socket: () => -1, close: () => 0 } as unknown as Shim,
    channels: () => undefined,
    features: (ifindex) => devices[ifindex],
    setFeatures: (ifindex, change) => {
      const device = devices[ifindex]!;
      if (device.refuses < 0) return device.refuses;
      for (const [name, on] of change) {
        device.writes.push(`${name} ${on ? 'on' : 'off'}`);
        if (on) device.wanted.add(name);
        else device.wanted.delete(name);
      }
      return 0;
    },
  };
  return fake as EthtoolNetlink;
}

function made(device: Device) {
  const folder = mkdtempSync(join(tmpdir(), 'tp-merging-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const store = new SettingsStore('1', folder);
  const told: TwinpathError[] = [];
  const devices: Record<number, Device> = { [NETVSC.ifindex]: device };
  const ethtool = ethtoolOf(devices);
  const open = (): Merging => new Merging(NETVSC, { ethtool, store, report: (error) => told.push(error) });
  return { folder, store, told, devices, ethtool, open };
}

describe('what a NetVSC merges', () => {
  it('is off while a port is open, and what was on is on again afterwards', () => {
    const device = new Device(['rx-lro', 'rx-gro-hw', 'rx-gro'], ['rx-lro', 'rx-gro']);
    const { folder, told, open } = made(device);
    const merging = open();
    merging.stop();
    expect([...device.wanted]).toEqual(['rx-gro']);
    expect(readdirSync(folder)).toEqual(['mac-00-0d-3a-44-55-00-netvsc.json']);
    merging.restore();
    expect([...device.wanted].sort()).toEqual(['rx-gro', 'rx-lro']);
    merging.restore();
    expect([readdirSync(folder), told]).toEqual([[], []]);
  });

  it.each([
    ['no such feature', new Device([], [])],
    ['none that can be changed', new Device(['rx-gro'], ['rx-gro'])],
    ['all of it off', new Device(['rx-lro'], [])],
  ])('is left alone on a device that has %s', (_, device) => {
    const { folder, told, open } = made(device);
    const merging = open();
    merging.stop();
    merging.restore();
    expect([device.writes, readdirSync(folder), told]).toEqual([[], [], []]);
  });

  it.each([
    ['refuses', new Device(['rx-lro'], ['rx-lro']), -16, /rx-lro be switched off \(EBUSY\)/],
    [
      'does not follow',
      new Device(['rx-lro'], ['rx-lro'], ['rx-lro']),
      0,
      /rx-lro be switched off: the port/,
    ],
    ['has it on for good', new Device([], [], ['rx-gro-hw']), 0, /rx-gro-hw be switched off: the port/],
  ])('is told of once where the device %s', (_, device, refuses, message) => {
    const { told, open } = made(device);
    device.refuses = refuses;
    const merging = open();
    merging.stop();
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ code: 'ERR_DEVICE_SETTINGS', device: 'eth0' });
    expect(told[0]!.message).toMatch(message);
  });

  it('is told of where the kernel cannot be asked, and the port goes on', () => {
    const { told, store } = made(new Device([], []));
    const refused = new TwinpathError('ERR_KERNEL', { detail: 'the kernel has no ethtool netlink' });
    const features = (): never => {
      throw refused;
    };
    const ethtool = { features } as unknown as EthtoolNetlink;
    const merging = new Merging(NETVSC, { ethtool, store, report: (error) => told.push(error) });
    merging.stop();
    merging.settle();
    merging.restore();
    expect(told).toEqual([refused]);
  });

  it('is off again when somebody has switched it on, and as they have set it afterwards', () => {
    const device = new Device(['rx-lro', 'rx-gro-hw'], []);
    const { told, open } = made(device);
    const merging = open();
    merging.stop();
    device.wanted.add('rx-gro-hw');
    merging.settle();
    expect([...device.wanted]).toEqual([]);
    expect(told.map(({ message }) => message)).toEqual([
      expect.stringMatching(/another program set its merging/),
    ]);
    merging.restore();
    expect([...device.wanted]).toEqual(['rx-gro-hw']);
  });

  it('is put back by the coordinator that goes on from another', () => {
    const device = new Device(['rx-lro'], ['rx-lro']);
    const { folder, open } = made(device);
    const merging = open();
    merging.stop();
    const next = open();
    next.adopt(JSON.parse(JSON.stringify(merging.held)));
    next.restore();
    expect([[...device.wanted], readdirSync(folder)]).toEqual([['rx-lro'], []]);
  });
});

describe('after a kill', () => {
  function killed(device: Device) {
    const site = made(device);
    site.open().stop();
    expect(site.store.for('netvsc').owner(NETVSC)).toBe(process.pid);
    return site;
  }

  /** The process that wrote these files is another one with our number. */
  function age(folder: string): void {
    for (const name of readdirSync(folder)) {
      const file = join(folder, name);
      writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), started: '1' }));
    }
  }

  it('the next port has what the NetVSC merged before as its original', () => {
    const device = new Device(['rx-lro'], ['rx-lro']);
    const { told, folder, open } = killed(device);
    const merging = open();
    merging.stop();
    expect([...device.wanted]).toEqual([]);
    merging.restore();
    expect([[...device.wanted], readdirSync(folder), told]).toEqual([['rx-lro'], [], []]);
  });

  it.each([
    ['the VF is listed first', [VF, NETVSC]],
    ['the NetVSC is listed first', [NETVSC, VF]],
  ])('any start puts it back, and what is kept of the VF with the same MAC: %s', (_, links) => {
    const device = new Device(['rx-lro'], ['rx-lro']);
    const { folder, store, devices, ethtool } = killed(device);
    const vf = new Device(['rx-lro'], []);
    devices[VF.ifindex] = vf;
    store.save(VF, { features: { original: { 'rx-lro': true }, applied: { 'rx-lro': false } } });
    putBackOrphans({ ethtool, netlink }, store, links); // its process still lives
    expect([device.wanted.size, vf.wanted.size, readdirSync(folder).length]).toEqual([0, 0, 2]);
    age(folder);
    putBackOrphans({ ethtool, netlink }, store, links);
    expect([[...device.wanted], [...vf.wanted], readdirSync(folder)]).toEqual([['rx-lro'], ['rx-lro'], []]);
  });

  it('a start leaves it to the port that has the NetVSC, whose process it cannot see', () => {
    const device = new Device(['rx-lro'], ['rx-lro']);
    const { folder, store, ethtool } = killed(device);
    age(folder);
    const lock = link({ ifindex: 9, name: `tlock${NETVSC.ifindex}`, kind: 'tun' });
    putBackOrphans({ ethtool, netlink }, store, [NETVSC, lock]);
    expect([device.wanted.size, readdirSync(folder).length]).toEqual([0, 1]);
  });

  it('a file that names other features is not believed', () => {
    const device = new Device(['rx-lro', 'rx-all'], ['rx-lro']);
    const { folder, store, ethtool } = killed(device);
    store
      .for('netvsc')
      .save(NETVSC, { merging: { original: { 'rx-all': true }, applied: { 'rx-lro': false } } });
    age(folder);
    device.writes.length = 0;
    putBackOrphans({ ethtool, netlink }, store, [NETVSC]);
    expect([device.writes, readdirSync(folder)]).toEqual([[], []]);
  });
});
