import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Flow, hashFields, rssOf, setHashFields, setRss } from '../../../src/kernel/ethtool-rss.ts';
import { decodeRss, encodeRss, encodeRssQuery, readRss } from '../../../src/kernel/ethtool-rss-ioctl.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { KERNELS, RssDevice } from '../../models/rss-device.ts';

const SIOCGIFNAME = 0x8910;
const ENODEV = -19;

const bytesOf = (view: DataView): number[] => [...new Uint8Array(view.buffer)];

describe('a request about RSS', () => {
  it('has the table in words behind the header, and the key behind the table', () => {
    const view = encodeRss({ key: Uint8Array.of(9, 8), table: [1, 258], hashFunction: 2, inputTransform: 1 });
    expect(bytesOf(view)).toEqual([
      ...[0x47, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0],
      ...[2, 1, 0, 0, 0, 0, 0, 0],
      ...[1, 0, 0, 0, 2, 1, 0, 0],
      ...[9, 8],
    ]);
  });

  it('leaves what is not named: a table by a size of all ones, a key by a size of none', () => {
    expect(bytesOf(encodeRss({ key: Uint8Array.of(7) })).slice(8)).toEqual([
      ...[255, 255, 255, 255, 1, 0, 0, 0],
      ...[0, 0, 0, 0, 0, 0, 0, 0],
      7,
    ]);
    expect(bytesOf(encodeRss({ table: [5] })).slice(8)).toEqual([
      ...[1, 0, 0, 0, 0, 0, 0, 0],
      ...[0, 0, 0, 0, 0, 0, 0, 0],
      ...[5, 0, 0, 0],
    ]);
  });

  it('resets the table by a size of none', () => {
    expect(encodeRss({ table: 'default' }).getUint32(8, true)).toBe(0);
  });

  it('reads back as it was written', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 60 }),
        fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { maxLength: 300 }),
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: 255 }),
        (key, table, hashFunction, inputTransform) => {
          const rss = { key, table, hashFunction, inputTransform };
          expect(decodeRss(encodeRss(rss))).toEqual(rss);
          expect(encodeRssQuery(table.length, key.length).byteLength).toBe(encodeRss(rss).byteLength);
        },
      ),
    );
  });
});

describe.each(KERNELS)("a device's RSS on Linux %s", (kernel) => {
  it('is read completely for any sizes of key and table', () => {
    const device = new RssDevice({
      kernel,
      queues: 3,
      entries: 70,
      keyBytes: 52,
      inputTransform: 1,
      hashFunction: 4,
    });
    expect(rssOf(device.ethtool, device.ifindex)).toEqual({
      key: Uint8Array.from(device.key),
      table: device.table,
      hashFunction: 4,
      inputTransform: 1,
    });
    expect(device.open).toBe(0);
  });

  it('is undefined where the driver does not say, and setting it has the errno', () => {
    const { ethtool, ifindex } = new RssDevice({ kernel, queues: 2, refuses: [0x46, 0x29, 0x2a] });
    expect(rssOf(ethtool, ifindex)).toBeUndefined();
    expect(setRss(ethtool, ifindex, { table: 'default' })).toBe(-95);
    expect(hashFields(ethtool, ifindex, Flow.TCP4)).toBeUndefined();
    expect(setHashFields(ethtool, ifindex, Flow.TCP4, 0xf0)).toBe(-95);
  });

  it('changes in the named fields only', () => {
    const device = new RssDevice({ kernel, queues: 4, inputTransform: 1, hashFunction: 2 });
    const before = rssOf(device.ethtool, device.ifindex);
    const key = Uint8Array.from({ length: 40 }, () => 0x5a);
    expect(setRss(device.ethtool, device.ifindex, { key })).toBe(0);
    expect(rssOf(device.ethtool, device.ifindex)).toEqual({ ...before, key });
    const table = before!.table.map(() => 3);
    expect(setRss(device.ethtool, device.ifindex, { table })).toBe(0);
    expect(rssOf(device.ethtool, device.ifindex)).toEqual({ ...before, key, table });
    expect(setRss(device.ethtool, device.ifindex, { hashFunction: 1, inputTransform: 0 })).toBe(0);
    expect(rssOf(device.ethtool, device.ifindex)).toEqual({ key, table, hashFunction: 1, inputTransform: 0 });
    expect(setRss(device.ethtool, device.ifindex, { table: 'default' })).toBe(0);
    expect(device.configured).toBe(false);
    expect(rssOf(device.ethtool, device.ifindex)?.table).toEqual(before?.table);
    expect(device.open).toBe(0);
  });

  it('is refused with a table or key of another size, or a queue that is not there', () => {
    const { ethtool, ifindex } = new RssDevice({ kernel, queues: 4 });
    expect(setRss(ethtool, ifindex, { key: new Uint8Array(52) })).toBe(-22);
    expect(setRss(ethtool, ifindex, { table: [0, 1] })).toBe(-22);
    expect(setRss(ethtool, ifindex, { table: Array(128).fill(4) })).toBe(-22);
  });

  it('has fields to hash for each kind of traffic', () => {
    const device = new RssDevice({ kernel, queues: 2 });
    expect(hashFields(device.ethtool, device.ifindex, Flow.UDP4)).toBe(0x30);
    expect(setHashFields(device.ethtool, device.ifindex, Flow.UDP4, 0xf0)).toBe(0);
    expect([...device.fields]).toEqual([
      [1, 0xf0],
      [2, 0xf0],
      [5, 0xf0],
      [6, 0x30],
      [0x10, 0x30],
      [0x11, 0x30],
    ]);
    expect(hashFields(device.ethtool, device.ifindex, Flow.UDP4)).toBe(0xf0);
  });

  it('reads as it was set, whatever is set in what order', () => {
    const table = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 64, maxLength: 64 });
    // Most of a table stays in most changes.
    const entries = fc.tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 0, max: 3 }));
    const change = fc.oneof(
      fc.record({ entries: fc.array(entries, { minLength: 1, maxLength: 3 }) }),
      fc.record({ table }),
      fc.record({ table: fc.constant('default' as const) }),
      fc.record({ key: fc.uint8Array({ minLength: 40, maxLength: 40 }) }),
      fc.record({ hashFunction: fc.constantFrom(1, 2, 4), inputTransform: fc.constantFrom(0, 1) }),
    );
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
        const device = new RssDevice({ kernel, queues: 4, entries: 64 });
        let expected = rssOf(device.ethtool, device.ifindex)!;
        for (const one of changes) {
          const asked =
            'entries' in one
              ? { table: expected.table.map((queue, i) => new Map(one.entries).get(i) ?? queue) }
              : one;
          expect(setRss(device.ethtool, device.ifindex, asked)).toBe(0);
          const named = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== 'default'));
          expected = { ...expected, ...named };
          if ('table' in asked) expect(device.configured).toBe(asked.table !== 'default');
          if ('table' in asked && asked.table === 'default') {
            expected = { ...expected, table: expected.table.map((_, i) => i % 4) };
          }
          expect(rssOf(device.ethtool, device.ifindex)).toEqual(expected);
        }
        expect(device.open).toBe(0);
      }),
    );
  });
});

describe('the name of a device, which an ioctl needs', () => {
  it('is requested by the current name of the device', () => {
    const device = new RssDevice({ queues: 2 });
    device.names = ['vf0', 'vf0', 'enP1s2', 'enP1s2'];
    expect(rssOf(device.ethtool, device.ifindex)).toBeDefined();
    expect(device.name).toBe('enP1s2');
    expect(hashFields(device.ethtool, device.ifindex + 1, Flow.TCP4)).toBeUndefined();
    expect(setHashFields(device.ethtool, device.ifindex + 1, Flow.TCP4, 0xf0)).toBe(-19);
  });

  it('is asked for again when the name changes under the call, and given up if it always does', () => {
    const device = new RssDevice({ queues: 2 });
    device.names = ['vf0', 'vf1'];
    expect(setHashFields(device.ethtool, device.ifindex, Flow.UDP4, 0xf0)).toBe(0);
    expect([device.name, device.changes]).toEqual(['vf1', [0x2a, 0x2a]]);
    device.names = Array.from({ length: 100 }, (_, i) => `vf${i}`);
    expect(setHashFields(device.ethtool, device.ifindex, Flow.UDP4, 0xf0)).toBe(-11);
    expect(device.open).toBe(0);
  });

  it('is not believed when the device is gone after the call', () => {
    const device = new RssDevice({ queues: 2 });
    const { ioctl } = device.shim;
    let lookups = 0;
    const shim: Shim = {
      ...device.shim,
      ioctl: (fd, request, argument) =>
        request === SIOCGIFNAME && ++lookups === 2 ? ENODEV : ioctl(fd, request, argument),
    };
    expect(readRss(shim, device.ifindex)).toBe(ENODEV);
    expect(device.open).toBe(0);
  });

  it('is not used where the kernel has a message', () => {
    const device = new RssDevice({ queues: 2, kernel: '7.0' });
    expect(setHashFields(device.ethtool, device.ifindex, Flow.TCP4, 0x30)).toBe(0);
    expect(hashFields(device.ethtool, device.ifindex, Flow.TCP4)).toBe(0x30);
    expect(setRss(device.ethtool, device.ifindex, { table: device.table.map(() => 1) })).toBe(0);
    expect(rssOf(device.ethtool, device.ifindex)?.table).toEqual(device.table);
    expect(device.name).toBe('');
  });
});
