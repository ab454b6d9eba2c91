/** What a port can do: what both of its devices can, each with the reason if it cannot. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeviceInformation } from '../../../src/kernel/device-information.ts';
import { maxMtuWhileOpen } from '../../../src/net/packet-size.ts';
import { type Ability, portCapability } from '../../../src/paths/capability.ts';
import type { PathDescription } from '../../../src/paths/device.ts';

const device = (given: Partial<DeviceInformation> = {}): DeviceInformation => ({
  ...{ device: 'eth0', mac: '', driver: 'hv_netvsc', firmware: '', bus: 'vmbus', busAddress: '' },
  mtu: { current: 1500, min: 68, max: 65_521 },
  queues: { rx: 4, tx: 4, maxRx: 8, maxTx: 8 },
  rings: undefined,
  offloads: {},
  xdp: { native: true, zeroCopy: true, multiBuffer: true, rxMetadata: [], txMetadata: [] },
  link: { up: true, speedMbps: 40_000, duplex: 'full' },
  ...given,
});
const xdp = { native: true, zeroCopy: true, multiBuffer: true, rxMetadata: [], txMetadata: [] } as const;
const vf = (given: Partial<DeviceInformation> = {}): DeviceInformation => device({ device: 'vf0', ...given });
const path = (given: Partial<PathDescription>): PathDescription => ({
  ...{ driver: 'af-xdp', device: 'vf0', mode: 'native copy', redirect: 'xdp link' },
  ...given,
});
const capability = (given: Partial<Parameters<typeof portCapability>[0]>) =>
  portCapability({ frameSize: 2048, synthetic: device(), vf: vf(), ...given });

describe('the MTU range of a port', () => {
  it('is inside the range of each device and of a frame, and reaches one limit, which the reason names', () => {
    const range = fc.record({
      min: fc.integer({ min: 0, max: 1280 }),
      max: fc.option(fc.integer({ min: 1280, max: 9978 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(
        range,
        fc.option(range, { nil: undefined }),
        fc.constantFrom(2048, 4096, 16_384),
        (own, other, frameSize) => {
          const synthetic = device({ mtu: { current: 1280, ...own } });
          const second = other && vf({ mtu: { current: 1280, ...other } });
          const { mtu } = portCapability({ frameSize, synthetic, vf: second });
          const limits = new Map([
            ['eth0', own.max],
            ['vf0', other?.max],
            ['a frame of', maxMtuWhileOpen(frameSize)],
          ]);
          const known = [...limits.values()].filter((limit) => limit !== undefined);
          expect(mtu.max).toBe(Math.min(...known));
          expect(mtu.min).toBe(Math.max(68, own.min, other?.min ?? 0));
          const [named] = [...limits].find(([name]) => mtu.reason.startsWith(name))!;
          expect(limits.get(named)).toBe(mtu.max);
        },
      ),
    );
  });
});

describe('native XDP and zero-copy', () => {
  const both = (given: Parameters<typeof capability>[0]): [Ability, Ability] => {
    const { nativeXdp, zeroCopy } = capability(given);
    return [nativeXdp, zeroCopy];
  };
  const no = (reason: string): Ability => ({ has: false, reason });

  it.each<[string, Parameters<typeof capability>[0], Ability, Ability]>([
    ['without a VF', { vf: undefined }, no('there is no VF now'), no('there is no VF now')],
    ['by a driver that has both', {}, { has: true }, { has: true }],
    [
      'by a driver without XDP',
      { vf: vf({ xdp: { ...xdp, native: false, zeroCopy: false } }) },
      no('the driver of vf0 runs no XDP program'),
      no('the driver of vf0 runs no XDP program'),
    ],
    [
      'by a driver without zero-copy',
      { vf: vf({ xdp: { ...xdp, zeroCopy: false } }) },
      { has: true },
      no('the driver of vf0 has no zero-copy for AF_XDP'),
    ],
    [
      'on an open path that has both',
      { path: path({ mode: 'native zero-copy' }) },
      { has: true },
      { has: true },
    ],
    [
      'on an open path whose device refused zero-copy',
      { path: path({ mode: 'native copy' }) },
      { has: true },
      no('vf0 refused zero-copy and runs in the mode native copy'),
    ],
    [
      'on the generic hook',
      { path: path({ mode: 'generic copy', generic: 'Its MTU is too large.' }) },
      no('Its MTU is too large'),
      no('Its MTU is too large'),
    ],
  ])('%s', (_, given, nativeXdp, zeroCopy) => {
    expect(both(given)).toEqual([nativeXdp, zeroCopy]);
  });

  it('are not known before the path was open if the kernel does not report them, and known afterwards', () => {
    const silent = vf({ xdp: undefined });
    expect(both({ vf: silent }).map(({ has }) => has)).toEqual([undefined, undefined]);
    expect(both({ vf: silent, path: path({ mode: 'native zero-copy' }) })).toEqual([
      { has: true },
      { has: true },
    ]);
    expect(both({ vf: silent, path: path({}) }).map(({ has }) => has)).toEqual([true, false]);
  });
});

describe('VLAN tags', () => {
  it.each<[string, Parameters<typeof capability>[0], boolean]>([
    ['are kept without a VF', { vf: undefined }, true],
    [
      'are kept by a VF whose stripping can be switched off',
      { vf: vf({ offloads: { rxVlan: { on: true, fixed: false } } }) },
      true,
    ],
    [
      'are lost by a VF whose stripping is fixed',
      { vf: vf({ offloads: { rxVlan: { on: true, fixed: true } } }) },
      false,
    ],
    ['are lost on an open path that loses them', { path: path({ vlanTags: 'lost' }) }, false],
    [
      'are kept on an open path that keeps them',
      { vf: vf({ offloads: { rxVlan: { on: true, fixed: true } } }), path: path({ vlanTags: 'kept' }) },
      true,
    ],
  ])('%s', (_, given, has) => {
    expect(capability(given).vlanTags.has).toBe(has);
  });
});

it('flows are spread by the device only if the open path says so', () => {
  expect(capability({ vf: undefined }).deviceRss).toEqual({ has: false, reason: 'there is no VF now' });
  expect(capability({}).deviceRss.has).toBeUndefined();
  expect(capability({ path: path({ rss: 'device' }) }).deviceRss).toEqual({ has: true });
  expect(capability({ path: path({ rss: 'software' }) }).deviceRss).toMatchObject({
    has: false,
    reason: expect.stringMatching(/^vf0 does not report/),
  });
});

describe('receive metadata', () => {
  const reporting = vf({ xdp: { ...xdp, rxMetadata: ['timestamp'] } });
  const checks = device({ offloads: { rxChecksum: { on: true, fixed: false } } });

  it('of the VF are there if its driver reports them and the open path has them', () => {
    expect(capability({ vf: reporting })).toMatchObject({
      rxTimestamp: { has: true },
      rxHash: { has: false, reason: 'the driver of vf0 reports none (Linux 6.8 and later do)' },
    });
    const lacking = { path: path({ lacks: { time: 'vf0 runs the generic hook' } }), vf: reporting };
    expect(capability(lacking).rxTimestamp).toEqual({ has: false, reason: 'vf0 runs the generic hook' });
    expect(capability({ vf: undefined }).rxHash.reason).toBe('there is no VF now');
    expect(capability({ vf: vf({ xdp: undefined }) }).rxHash.has).toBeUndefined();
  });

  it('have the status of a checksum only where no VF can take over', () => {
    expect(capability({ synthetic: checks, vf: undefined }).rxChecksum).toEqual({ has: true });
    expect(capability({ synthetic: checks }).rxChecksum.reason).toBe(
      'XDP does not say whether vf0 has verified it',
    );
    expect(capability({ vf: undefined }).rxChecksum.reason).toBe('eth0 does not verify checksums');
  });
});

describe('packets longer than one buffer', () => {
  const multiBuffer = (frameSize: number, given: Parameters<typeof capability>[0] = {}) =>
    capability({ ...given, frameSize }).multiBuffer;

  it('need the frames for them, and an open VF that has them', () => {
    expect(multiBuffer(4096)).toEqual({ has: false, reason: expect.stringContaining('frameSize: 16384') });
    expect(multiBuffer(16_384).has).toBeUndefined();
    expect(multiBuffer(16_384, { vf: undefined })).toEqual({ has: false, reason: 'there is no VF now' });
    expect(multiBuffer(16_384, { path: path({ multiBuffer: true }) })).toEqual({ has: true });
    expect(multiBuffer(16_384, { path: path({ multiBuffer: false }) })).toMatchObject({
      ...{ has: false, reason: expect.stringContaining('Linux 6.17') },
    });
  });

  it('limit the MTU to one buffer where a VF does not have them', () => {
    const { mtu } = capability({ frameSize: 16_384, path: path({ multiBuffer: false }) });
    expect(mtu).toMatchObject({ max: 3817, reason: expect.stringContaining('multi-buffer') });
  });
});

it('everything that a port lacks has a reason, and nothing that it has', () => {
  const given = [{}, { vf: undefined }, { path: path({ rss: 'software', vlanTags: 'lost' }) }] as const;
  for (const one of given) {
    const { mtu, ...abilities } = capability(one);
    for (const { has, reason } of Object.values(abilities)) expect(reason === undefined).toBe(has === true);
    expect(mtu.reason).not.toBe('');
  }
});
