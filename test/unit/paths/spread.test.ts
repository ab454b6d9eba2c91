import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceSettings } from '../../../src/kernel/device-settings.ts';
import type { EthtoolNetlink } from '../../../src/kernel/ethtool-netlink.ts';
import { rssOf } from '../../../src/kernel/ethtool-rss.ts';
import { SettingsStore } from '../../../src/kernel/settings-store.ts';
import { originalRss, rssSetting } from '../../../src/paths/af-xdp/settings.ts';
import { agrees, spreadDevice, type Wanted } from '../../../src/paths/af-xdp/spread.ts';
import { ALL_HASHED, HashBit } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY, keyOf } from '../../../src/rss/key.ts';
import { respread, retaIndex, spread } from '../../../src/rss/redirection.ts';
import { KERNELS, RssDevice, type RssDeviceOptions } from '../../models/rss-device.ts';
import { link } from '../../support/machine.ts';

const upTo = (count: number): number[] => Array.from({ length: count }, (_, queue) => queue);
const wantedFor = (queues: number, change: Partial<Wanted> = {}): Wanted => ({
  key: DEFAULT_KEY,
  table: spread(upTo(queues)),
  hashTypes: ALL_HASHED,
  queues,
  isUp: true,
  ...change,
});

/** Nothing is kept: these devices are gone with the test. */
function spreadOver(
  device: RssDevice,
  wanted: Wanted,
): { settled: boolean; reason: string | undefined; restore: () => void } {
  const store = new SettingsStore('1', undefined, 'no folder');
  const settings = new DeviceSettings(store, link({ ifindex: device.ifindex }));
  const reason = spreadDevice(device.ethtool, device.ifindex, wanted, settings);
  return { settled: reason === undefined, reason, restore: () => settings.restore() };
}

describe.each(KERNELS)('a device whose RSS can be set on Linux %s', (kernel) => {
  it.each<[string, RssDeviceOptions]>([
    ['as many entries as the port', { queues: 3 }],
    ['twice as many', { queues: 3, entries: 256 }],
    ['three times as many', { queues: 3, entries: 384 }],
    ['half as many, and a table that repeats', { queues: 4, entries: 64 }],
    ['a longer key', { queues: 3, keyBytes: 52 }],
    ['another hash function', { queues: 3, hashFunction: 2 }],
    ['an input that is made symmetric first', { queues: 3, inputTransform: 1 }],
  ])('settles with %s', (_, options) => {
    const device = new RssDevice({ ...options, kernel });
    const before = device.state();
    const wanted = wantedFor(options.queues);
    const { settled, restore } = spreadOver(device, wanted);
    expect(settled).toBe(true);
    expect(device.key.slice(0, 40)).toEqual([...DEFAULT_KEY]);
    expect(device.key.slice(40)).toEqual(
      upTo(options.keyBytes ?? 40)
        .slice(40)
        .map((i) => i + 1),
    );
    expect(device.table).toEqual(device.table.map((_, i) => wanted.table[i % 128]));
    expect(device).toMatchObject({ hashFunction: 1, inputTransform: 0, open: 0 });
    expect([...device.fields.values()]).toEqual([0xf0, 0xf0, 0xf0, 0xf0, 0x30, 0x30]);
    restore();
    expect(device.state()).toEqual(before);
    const changes = device.changes.length;
    restore();
    expect(device.changes.length).toBe(changes);
  });

  it("gets its administrator's table back as that, and the kernel's own as the kernel's own", () => {
    for (const administered of [true, false]) {
      const device = new RssDevice({ kernel, queues: 4 });
      if (administered) device.table = device.table.map((_, i) => i % 2);
      device.configured = administered;
      const before = device.state();
      const { restore } = spreadOver(device, wantedFor(4));
      expect(device.configured).toBe(true);
      restore();
      expect(device.state()).toEqual(before);
    }
  });

  it('is not touched when it agrees already', () => {
    const device = new RssDevice({ kernel, queues: 2 });
    device.key = [...DEFAULT_KEY];
    for (const flow of [1, 2, 5, 6]) device.fields.set(flow, 0xf0);
    const { settled, restore } = spreadOver(device, wantedFor(2));
    restore();
    expect(settled).toBe(true);
    expect(device.changes).toEqual([]);
  });

  it('does not agree as long as it changes the input or hashes otherwise', () => {
    for (const options of [{ inputTransform: 1 }, { hashFunction: 2 }]) {
      const device = new RssDevice({ kernel, queues: 2, ...options });
      device.key = [...DEFAULT_KEY];
      expect(agrees(rssOf(device.ethtool, device.ifindex)!, wantedFor(2))).toBe(false);
      expect(spreadOver(device, wantedFor(2)).settled).toBe(true);
      expect(agrees(rssOf(device.ethtool, device.ifindex)!, wantedFor(2))).toBe(true);
    }
  });

  it('keeps the bytes of a port key that it has room for', () => {
    const key = keyOf('ab'.repeat(52));
    const device = new RssDevice({ kernel, queues: 2, keyBytes: 40 });
    expect(spreadOver(device, wantedFor(2, { key })).settled).toBe(true);
    expect(device.key).toEqual([...key.slice(0, 40)]);
  });
});

describe.each(KERNELS)('a device that does not settle on Linux %s', (kernel) => {
  it.each<[string, RssDeviceOptions]>([
    ['has too few entries for the table', { queues: 3, entries: 64 }],
    ['has a number of entries that no hash is taken from alike', { queues: 3, entries: 96 }],
    ['has a key that is too short', { queues: 3, keyBytes: 16 }],
    ['says yes to the key and keeps its own', { queues: 3, deaf: true }],
    ['does not say which fields it hashes', { queues: 3, refuses: [0x29] }],
    ['does not let the fields be chosen', { queues: 3, refuses: [0x2a] }],
  ])('%s, and gets back what it had', (_, options) => {
    const device = new RssDevice({ ...options, kernel });
    const before = device.state();
    const { settled, restore } = spreadOver(device, wantedFor(options.queues));
    expect(settled).toBe(false);
    expect(device.changes).toContain(0x47);
    restore();
    expect(device.state()).toEqual(before);
    expect(device.open).toBe(0);
  });

  it.each<[string, RssDeviceOptions, Partial<Wanted>]>([
    ['does not say', { queues: 2, refuses: [0x46] }, {}],
    ['cannot be set', { queues: 2, refuses: [0x47] }, {}],
    ['has no table', { queues: 2, entries: 0 }, {}],
    ['lacks a queue that the table names', { queues: 2 }, { table: spread([0, 1, 2]) }],
  ])('is left alone when it %s', (_, options, change) => {
    const device = new RssDevice({ ...options, kernel });
    const before = device.state();
    const { settled, restore } = spreadOver(device, wantedFor(2, change));
    restore();
    expect(settled).toBe(false);
    expect(device.changes).toEqual([]);
    expect(device.state()).toEqual(before);
  });
});

describe.each(KERNELS)('hash types on Linux %s', (kernel) => {
  const types = fc.integer({ min: 0, max: ALL_HASHED });

  it('are hashed as asked for, each by a setting of its own, and put back', () => {
    fc.assert(
      fc.property(types, (hashTypes) => {
        const device = new RssDevice({ kernel, queues: 2 });
        const before = device.state();
        const { settled, restore } = spreadOver(device, wantedFor(2, { hashTypes }));
        expect(settled).toBe(true);
        const of = (ports: number, ip: number): number =>
          (hashTypes & ports) !== 0 ? 0xf0 : (hashTypes & ip) !== 0 ? 0x30 : 0;
        expect([...device.fields]).toEqual([
          [1, of(HashBit.TCP4, HashBit.IPV4)],
          [2, of(HashBit.UDP4, HashBit.IPV4)],
          [5, of(HashBit.TCP6, HashBit.IPV6)],
          [6, of(HashBit.UDP6, HashBit.IPV6)],
          [0x10, of(0, HashBit.IPV4)],
          [0x11, of(0, HashBit.IPV6)],
        ]);
        restore();
        expect(device.state()).toEqual(before);
      }),
    );
  });

  it('that a driver does not let be chosen are named in the reason', () => {
    const device = new RssDevice({ kernel, queues: 2, fixed: [0x10, 0x11, 2] });
    const { reason, restore } = spreadOver(device, wantedFor(2));
    expect(reason).toBe('it does not hash addresses and ports of UDP over IPv4 (EINVAL)');
    restore();
    const withoutIp = wantedFor(2, { hashTypes: HashBit.TCP4 | HashBit.TCP6 | HashBit.IPV6 });
    const fixed = new RssDevice({ kernel, queues: 2, fixed: [0x10, 0x11] });
    expect(spreadOver(fixed, withoutIp).reason).toBe('it hashes other IPv4 although it should not (EINVAL)');
  });
});

it('a device with one queue needs no redirection table', () => {
  const device = new RssDevice({ queues: 1, refuses: [0x46, 0x47, 0x29, 0x2a] });
  expect(spreadOver(device, wantedFor(1)).settled).toBe(true);
});

it.each(KERNELS)(
  'on Linux %s tables that agree find the same queue for every hash, masked or divided, and tables that differ do not',
  (kernel) => {
    const sizes = fc.oneof(
      fc.constantFrom(1, 2, 32, 64, 128, 256, 384, 512),
      fc.integer({ min: 1, max: 520 }),
    );
    const subset = fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(sizes, subset, subset, fc.boolean(), (entries, first, active, moved) => {
        const table = moved ? respread(spread(first), active) : spread(active);
        const device = new RssDevice({ queues: 8, entries, kernel });
        const wanted = wantedFor(8, { table });
        const { settled } = spreadOver(device, wanted);
        expect(agrees(rssOf(device.ethtool, device.ifindex)!, wanted)).toBe(settled);

        const hashes = upTo(entries * 128);
        const same = (index: (hash: number) => number): boolean =>
          hashes.every((hash) => device.table[index(hash)] === table[retaIndex(hash)]);
        if (settled) expect(same((hash) => hash % entries)).toBe(true);
        if ((entries & (entries - 1)) === 0) expect(same((hash) => hash & (entries - 1))).toBe(settled);
      }),
    );
  },
);

it.each([
  ['the kernel’s', (entry: number, queues: number) => entry % queues, 'default'],
  ['igb’s, in blocks', (entry: number, queues: number) => Math.floor((entry * queues) / 128), 'default'],
  ['an administrator’s', (entry: number) => (entry < 100 ? 0 : 1), undefined],
] as const)('a table of %s is put back as what it was', (_, queueOf, expected) => {
  for (const queues of [2, 3, 4, 8]) {
    const table = Array.from({ length: 128 }, (_, entry) => queueOf(entry, queues));
    const value = { key: '', table, hashFunction: 1, inputTransform: 0 };
    expect(originalRss(value, queues, true)).toEqual({ ...value, table: expected ?? table });
  }
});

it('a table of zeros is the administrator’s if the device is up, and unset before it was up', () => {
  const value = { key: '', table: Array.from({ length: 128 }, () => 0), hashFunction: 1, inputTransform: 0 };
  expect(originalRss(value, 2, true)).toEqual(value);
  expect(originalRss(value, 2, false)).toEqual({ ...value, table: 'default' });
});

it.each([
  ['the kernel’s', (entry: number) => entry % 2, true],
  ['igb’s', (entry: number) => Math.floor(entry / 64), true],
  ['an administrator’s', (entry: number) => (entry < 100 ? 0 : 1), false],
  ['one queue’s', () => 0, false],
] as const)('%s table is what a device makes of itself: %#', (_, queueOf, fresh) => {
  const table = Array.from({ length: 128 }, (_, entry) => queueOf(entry));
  const setting = rssSetting({} as EthtoolNetlink, 7);
  expect(setting.isDefault!({ key: '', table, hashFunction: 1, inputTransform: 0 })).toBe(fresh);
});
