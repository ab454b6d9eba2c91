/** RSS of a device that alone spreads the flows, as it is configured at run time: taken whole, or refused and left alone. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type CheckedChange, changed, checkChange, initial } from '../../../src/configuration.ts';
import { SettingsStore } from '../../../src/kernel/settings-store.ts';
import { Memory } from '../../../src/memory/shared.ts';
import type { RssMode } from '../../../src/options.ts';
import { DeviceSetup } from '../../../src/paths/af-xdp/device-setup.ts';
import type { PathDescription } from '../../../src/paths/device.ts';
import { hashBits } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY, keyFrom } from '../../../src/rss/key.ts';
import { retaIndex, tableFrom } from '../../../src/rss/redirection.ts';
import { RssHash } from '../../../src/rss/toeplitz.ts';
import { KERNELS, RssDevice, type RssDeviceOptions } from '../../models/rss-device.ts';
import { link } from '../../support/machine.ts';

const QUEUES = 4;
const memory = Memory.create({
  ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
});

function setUp(options: Partial<RssDeviceOptions>, rss: RssMode = 'device') {
  const device = new RssDevice({ queues: QUEUES, ...options });
  const description: PathDescription = { driver: 'af-xdp', device: 'vf0', mode: '', redirect: '' };
  const setup = new DeviceSetup(
    memory,
    link({ ifindex: device.ifindex, name: 'vf0' }),
    {
      rss,
      rssKey: DEFAULT_KEY,
      ethtool: device.ethtool,
      store: new SettingsStore('1', undefined, 'no folder'),
    },
    description,
    () => {},
  );
  setup.rxQueues = QUEUES;
  return { device, setup, description };
}

const check = (change: Parameters<typeof checkChange>[0]): CheckedChange => checkChange(change, 2048, QUEUES);
const wanted = (change: Parameters<typeof checkChange>[0]) => initial(check(change));

/** The queue to which the device gives a UDP packet of this source port. */
function queueOf(device: RssDevice, port: number): number {
  const packet = new DataView(new ArrayBuffer(42));
  packet.setUint32(12, 0x0800_4500);
  packet.setUint32(20, 0x4011);
  packet.setUint32(26, 0x0a000001);
  packet.setUint32(30, 0x0a000002);
  packet.setUint16(34, port);
  // Its hashed fields in the port's words: none, addresses, addresses and ports.
  const types = { 0: 0, 48: 1, 240: 4 }[device.fields.get(2)!]!;
  const hash = new RssHash(packet, Uint8Array.from(device.key), types).of(0, 42);
  return device.table[(hash >>> 0) % device.table.length]!;
}

/** The queue that the port's own hash and table name. */
function queueOfPort(configuration: ReturnType<typeof wanted>, port: number): number {
  const { rss, queues: active } = configuration;
  const packet = new DataView(new ArrayBuffer(42));
  packet.setUint32(12, 0x0800_4500);
  packet.setUint32(20, 0x4011);
  packet.setUint32(26, 0x0a000001);
  packet.setUint32(30, 0x0a000002);
  packet.setUint16(34, port);
  const hash = new RssHash(packet, keyFrom(rss.key, DEFAULT_KEY), hashBits(rss.hashTypes)).of(0, 42);
  return tableFrom({ table: rss.table, active, queues: QUEUES, serves: () => true })[retaIndex(hash)]!;
}

describe.each(KERNELS)('a device that alone spreads the flows, on Linux %s', (kernel) => {
  it('has its own settings until RSS or queues are configured, and has them back with the defaults', () => {
    const { device, setup } = setUp({ kernel });
    const before = device.state();
    expect(setup.spread(initial({}))).toBeUndefined();
    expect(device.changes).toEqual([]);
    expect(setup.spread(wanted({ rss: { key: 'symmetric' }, queues: [1, 2] }))).toBeUndefined();
    expect(setup.agrees).toBe(true);
    expect(new Set(device.table)).toEqual(new Set([1, 2]));
    expect(setup.spread(wanted({ rss: null, queues: null }))).toBeUndefined();
    expect(device.state()).toEqual(before);
    expect(setup.agrees).toBe(false);
  });

  it('delivers each flow to the queue that the configuration names, whatever came before', () => {
    const queue = fc.nat(QUEUES - 1);
    const change = fc.record(
      {
        rss: fc.record(
          {
            key: fc.constantFrom('default', 'symmetric', '5a'.repeat(40), null),
            table: fc.oneof(
              fc.constant(null),
              fc.constantFrom(1, 4, 128).chain((n) => fc.array(queue, { minLength: n, maxLength: n })),
            ),
            hashTypes: fc.constantFrom(
              null,
              ['ipv4', 'ipv6'] as const,
              ['udp4', 'ipv6', 'tcp6'] as const,
              [],
            ),
          },
          { requiredKeys: [] },
        ),
        queues: fc.oneof(fc.constant(null), fc.uniqueArray(queue, { minLength: 1 })),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.constantFrom(128, 256, 512), (changes, entries) => {
        const { device, setup } = setUp({ kernel, entries });
        const before = device.state();
        let now = initial({});
        for (const one of changes) {
          now = changed(now, check(one));
          expect(setup.spread(now)).toBeUndefined();
          if (!setup.agrees) continue; // nothing is asked for
          for (let port = 0; port < 64; port++) expect(queueOf(device, port)).toBe(queueOfPort(now, port));
        }
        setup.restore();
        expect(device.state()).toEqual(before);
      }),
      { numRuns: 40 },
    );
  });

  it.each<[string, Partial<RssDeviceOptions>, object, RegExp]>([
    ['has too small a table', { entries: 64 }, { rss: { table: half() } }, /its RSS table of 64 entries/],
    ['has no table', { entries: 0 }, { queues: [0] }, /has no RSS table/],
    ['refuses the key or table', { refuses: [0x47] }, { queues: [0] }, /refuses the RSS key or table/],
    [
      'says yes to the key and keeps its own',
      { deaf: true },
      { rss: { key: 'symmetric' } },
      /another RSS key/,
    ],
    ['does not say what it hashes', { refuses: [0x29] }, { queues: [0] }, /does not report what it hashes/],
    [
      'hashes other IPv4',
      { fixed: [0x10] },
      { rss: { hashTypes: ['tcp4'] } },
      /it hashes other IPv4 although/,
    ],
    [
      'hashes no ports',
      { fixed: [2] },
      { queues: [1] },
      /does not hash addresses and ports of UDP over IPv4/,
    ],
  ])('that %s refuses with the reason, and is as it was', (_, options, change, reason) => {
    const { device, setup } = setUp({ kernel, ...options });
    const before = device.state();
    const refusal = setup.spread(wanted(change));
    expect(refusal).toMatchObject({ code: 'ERR_DEVICE_SETTINGS', device: 'vf0' });
    expect(refusal!.message).toMatch(reason);
    expect(setup.agrees).toBe(false);
    expect(device.state()).toEqual(before);
  });

  it('that agrees with the workers is described as spreading, and one that refuses leaves it to them', () => {
    const good = setUp({ kernel }, 'auto');
    expect(good.setup.spread(initial({}))).toBeUndefined();
    expect(good.description.rss).toBe('device');
    good.setup.spread(wanted({ rss: { key: 'symmetric', table: [1, 3] } }));
    expect([good.description.rss, good.setup.agrees]).toEqual(['device', true]);
    expect(new Set(good.device.table)).toEqual(new Set([1, 3]));
    const bad = setUp({ kernel, deaf: true }, 'auto');
    expect(bad.setup.spread(wanted({ rss: { key: 'symmetric' } }))).toBeUndefined();
    expect([bad.description.rss, bad.setup.agrees]).toEqual(['software', false]);
  });
});

function half(): number[] {
  return Array.from({ length: 128 }, (_, i) => (i < 64 ? 0 : 1));
}
