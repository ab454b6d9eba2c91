/** What the kernel's replies about a device say. */
import { describe, expect, it } from 'vitest';
import { describeDevice, deviceInformation, linkState } from '../../../src/kernel/device-information.ts';
import { parseDriverInfo } from '../../../src/kernel/driver-info.ts';
import { COMMANDS, parseChannels, parseLinkModes, parseRings } from '../../../src/kernel/ethtool-messages.ts';
import { EthtoolNetlink } from '../../../src/kernel/ethtool-netlink.ts';
import { IFF, parseLink } from '../../../src/kernel/link.ts';
import { NetdevNetlink, parseXdpAbilities } from '../../../src/kernel/netdev-netlink.ts';
import { Attributes, MessageBuilder, parseMessages } from '../../../src/kernel/netlink.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { GenericNetlink, type Handler, type Reply } from '../../models/generic-netlink.ts';
import { link, recordedReply } from '../../support/machine.ts';

const ENODEV = -19;
const SOCKET = 39;

/** Replays what was recorded of a device. A kernel without `messages` has neither family's commands. */
function sources(device: 'veth0' | 'tap0', messages: readonly string[]) {
  const replay =
    (message: string): Handler =>
    () => {
      const recorded = recordedReply(device, message);
      if (typeof recorded === 'number') return recorded;
      return (reply) => {
        for (const { type, value } of new Attributes(recorded, 4).list) reply.bytes(type, value);
      };
    };
  const shim = (commands: [number, Handler][]): Shim =>
    ({
      ...new GenericNetlink(new Map(commands)).calls(SOCKET),
      ioctl: () => ENODEV,
    }) as Partial<Shim> as Shim;
  const names = Object.entries(COMMANDS).filter(([name]) => messages.includes(name));
  return {
    ethtool: EthtoolNetlink.open(shim(names.map(([name, command]) => [command, replay(name)]))),
    netdev: NetdevNetlink.open(shim([[1, replay('NETDEV_DEV_GET')]])),
  };
}

const GETS = ['FEATURES_GET', 'CHANNELS_GET', 'RINGS_GET', 'LINKMODES_GET', 'LINKSTATE_GET'];
const recordedLink = (device: 'veth0' | 'tap0') =>
  parseLink(recordedReply(device, 'RTM_NEWLINK') as Uint8Array)!;

describe('recorded replies', () => {
  it('describe a veth that is up', () => {
    const device = deviceInformation(sources('veth0', GETS), recordedLink('veth0'));
    expect(device).toMatchObject({
      ...{ device: 'veth0', driver: '', firmware: '', bus: '', busAddress: '', rings: undefined },
      mtu: { current: 1400, min: 68, max: 65_535 },
      queues: { rx: 4, tx: 4, maxRx: 4, maxTx: 4 },
      xdp: {
        native: true,
        zeroCopy: false,
        multiBuffer: true,
        rxMetadata: ['timestamp', 'hash', 'vlan tag'],
        txMetadata: [],
      },
      link: { up: true, speedMbps: 10_000, duplex: 'full' },
    });
    expect(device.offloads).toMatchObject({
      rxChecksum: { on: true, fixed: false },
      txChecksum: { on: true, fixed: false },
      tso: { on: true, fixed: false },
      rxVlan: { on: true, fixed: false },
      rxVlanFilter: { on: false, fixed: true },
    });
  });

  it('describe a tap that is down, whose speed does not count', () => {
    const device = deviceInformation(sources('tap0', GETS), recordedLink('tap0'));
    expect(device).toMatchObject({
      ...{ device: 'tap0', rings: undefined },
      mtu: { current: 1500, min: 68, max: 65_521 },
      queues: { rx: 0, tx: 0, maxRx: 1, maxTx: 1 },
      xdp: { native: true, zeroCopy: false, multiBuffer: false },
      link: { up: false, speedMbps: undefined, duplex: undefined },
    });
  });

  it('are not missed in a kernel without ethtool netlink: rtnetlink has the number of queues', () => {
    const device = deviceInformation(sources('veth0', []), recordedLink('veth0'));
    expect(device).toMatchObject({ offloads: {}, rings: undefined, queues: { rx: 4, maxRx: 4 } });
  });
});

/** A message of 32-bit attributes by type. */
function attributes(values: Record<number, number>): Attributes {
  const builder = new MessageBuilder().begin(16, 0);
  for (const [type, value] of Object.entries(values)) builder.u32(Number(type), value);
  const [message] = parseMessages(builder.finish(1));
  return new Attributes(message!.payload);
}

describe("a driver's words", () => {
  const answer = (texts: Record<number, string>): DataView => {
    const bytes = new Uint8Array(196).fill(0);
    for (const [at, text] of Object.entries(texts)) bytes.set(new TextEncoder().encode(text), Number(at));
    return new DataView(bytes.buffer);
  };

  it('are at their places in struct ethtool_drvinfo', () => {
    const whole = answer({
      4: 'mlx5_core',
      36: '6.18',
      68: '16.30.1240 (MSF0000000012)',
      100: 'b067:00:02.0',
    });
    const expected = {
      driver: 'mlx5_core',
      firmware: '16.30.1240 (MSF0000000012)',
      busAddress: 'b067:00:02.0',
    };
    expect(parseDriverInfo(whole)).toEqual(expected);
  });

  it('for "none" are none', () => {
    expect(parseDriverInfo(answer({ 4: 'hv_netvsc', 68: 'N/A' }))).toMatchObject({ firmware: '' });
  });
});

describe('queues', () => {
  it('of a device with combined channels count in both directions', () => {
    const channels = parseChannels(attributes({ 5: 8, 9: 4 }));
    const device = describeDevice(link({}), {
      ...{ driver: undefined, features: undefined, modes: undefined, xdp: undefined },
      channels,
      rings: parseRings(attributes({ 2: 8192, 5: 4096, 6: 1024, 9: 512 })),
    });
    expect(device.queues).toEqual({ rx: 4, tx: 4, maxRx: 8, maxTx: 8 });
    expect(device.rings).toEqual({ rx: 1024, tx: 512, maxRx: 8192, maxTx: 4096 });
  });
});

describe('a link', () => {
  const modes = { speedMbps: 40_000, duplex: 'full' } as const;

  it('is up if the device is up and has a carrier', () => {
    expect(linkState({ flags: IFF.UP, carrier: true }, modes)).toEqual({ up: true, ...modes });
    for (const down of [
      { flags: 0, carrier: true },
      { flags: IFF.UP, carrier: false },
    ]) {
      expect(linkState(down, modes)).toEqual({ up: false, speedMbps: undefined, duplex: undefined });
    }
  });

  it('has no speed and no duplex where the driver does not know them', () => {
    const unknown = { speedMbps: undefined, duplex: undefined };
    expect(parseLinkModes(attributes({ 5: 0xffffffff, 6: 0xff }))).toEqual(unknown);
    expect(parseLinkModes(attributes({ 5: 0 }))).toEqual(unknown);
    expect(parseLinkModes(attributes({ 5: 100, 6: 0 }))).toEqual({ speedMbps: 100, duplex: 'half' });
  });
});

it('XDP in the driver needs redirection, which AF_XDP is', () => {
  const withXdp = (bits: number) => parseXdpAbilities(attributes({ 3: bits }));
  expect(withXdp(1)).toMatchObject({ native: false });
  expect(withXdp(3)).toMatchObject({ native: true, zeroCopy: false, multiBuffer: false });
  expect(withXdp(3 + 8 + 32)).toMatchObject({ native: true, zeroCopy: true, multiBuffer: true });
  expect(parseXdpAbilities(attributes({ 5: 5, 6: 2 }))).toMatchObject({
    rxMetadata: ['timestamp', 'vlan tag'],
    txMetadata: ['checksum'],
  });
});

it.each<[string, Reply, number]>([
  ['says so', (reply) => reply.u32(4, 6), 6],
  ['has no zero-copy, or is on an older kernel', (reply) => reply.u32(3, 3), 0],
  ['is gone', ENODEV, 0],
])(
  'a device has as many buffers for a packet in zero-copy as its driver says, if it %s',
  (_, reply, segments) => {
    const kernel = new GenericNetlink(new Map([[1, () => reply]])).calls(SOCKET);
    const netdev = NetdevNetlink.open(kernel as Partial<Shim> as Shim);
    expect(netdev.zeroCopySegments(7)).toBe(segments);
    netdev.close();
  },
);
