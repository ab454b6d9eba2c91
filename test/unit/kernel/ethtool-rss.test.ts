import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeRss,
  encodeRss,
  encodeRssQuery,
  Flow,
  hashFields,
  rssOf,
  setHashFields,
  setRss,
} from '../../../src/kernel/ethtool-rss.ts';
import { RssDevice } from '../../models/rss-device.ts';

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

describe("a device's RSS", () => {
  it('is read completely for any sizes of key and table', () => {
    const device = new RssDevice({
      queues: 3,
      entries: 70,
      keyBytes: 52,
      inputTransform: 1,
      hashFunction: 4,
    });
    expect(rssOf(device.shim, device.ifindex)).toEqual({
      key: Uint8Array.from(device.key),
      table: device.table,
      hashFunction: 4,
      inputTransform: 1,
    });
    expect(device.name).toBe('vf0');
    expect(device.open).toBe(0);
  });

  it('is undefined where the driver does not say, and setting it has the errno', () => {
    const { shim, ifindex } = new RssDevice({ queues: 2, refuses: [0x46, 0x29, 0x2a] });
    expect(rssOf(shim, ifindex)).toBeUndefined();
    expect(setRss(shim, ifindex, { table: 'default' })).toBe(-95);
    expect(hashFields(shim, ifindex, Flow.TCP4)).toBeUndefined();
    expect(setHashFields(shim, ifindex, Flow.TCP4, 0xf0)).toBe(-95);
  });

  it('changes in the named fields only', () => {
    const device = new RssDevice({ queues: 4, inputTransform: 1, hashFunction: 2 });
    const before = rssOf(device.shim, device.ifindex);
    const key = Uint8Array.from({ length: 40 }, () => 0x5a);
    expect(setRss(device.shim, device.ifindex, { key })).toBe(0);
    expect(rssOf(device.shim, device.ifindex)).toEqual({ ...before, key });
    const table = before!.table.map(() => 3);
    expect(setRss(device.shim, device.ifindex, { table })).toBe(0);
    expect(rssOf(device.shim, device.ifindex)).toEqual({ ...before, key, table });
    expect(setRss(device.shim, device.ifindex, { hashFunction: 1, inputTransform: 0 })).toBe(0);
    expect(rssOf(device.shim, device.ifindex)).toEqual({ key, table, hashFunction: 1, inputTransform: 0 });
    expect(setRss(device.shim, device.ifindex, { table: 'default' })).toBe(0);
    expect(device.configured).toBe(false);
    expect(rssOf(device.shim, device.ifindex)?.table).toEqual(before?.table);
    expect(device.open).toBe(0);
  });

  it('is refused with a table or key of another size, or a queue that is not there', () => {
    const { shim, ifindex } = new RssDevice({ queues: 4 });
    expect(setRss(shim, ifindex, { key: new Uint8Array(52) })).toBe(-22);
    expect(setRss(shim, ifindex, { table: [0, 1] })).toBe(-22);
    expect(setRss(shim, ifindex, { table: Array(128).fill(4) })).toBe(-22);
  });

  it('is requested by the current name of the device', () => {
    const device = new RssDevice({ queues: 2 });
    device.names = ['vf0', 'vf0', 'enP1s2', 'enP1s2'];
    expect(rssOf(device.shim, device.ifindex)).toBeDefined();
    expect(device.name).toBe('enP1s2');
    expect(hashFields(device.shim, device.ifindex + 1, Flow.TCP4)).toBeUndefined();
    expect(setHashFields(device.shim, device.ifindex + 1, Flow.TCP4, 0xf0)).toBe(-19);
  });

  it('is asked for again when the name changes under the call, and given up if it always does', () => {
    const device = new RssDevice({ queues: 2 });
    device.names = ['vf0', 'vf1'];
    expect(setHashFields(device.shim, device.ifindex, Flow.UDP4, 0xf0)).toBe(0);
    expect([device.name, device.changes]).toEqual(['vf1', [0x2a, 0x2a]]);
    device.names = Array.from({ length: 100 }, (_, i) => `vf${i}`);
    expect(setHashFields(device.shim, device.ifindex, Flow.UDP4, 0xf0)).toBe(-11);
    expect(device.open).toBe(0);
  });

  it('has fields to hash for each kind of traffic', () => {
    const device = new RssDevice({ queues: 2 });
    expect(hashFields(device.shim, device.ifindex, Flow.UDP4)).toBe(0x30);
    expect(setHashFields(device.shim, device.ifindex, Flow.UDP4, 0xf0)).toBe(0);
    expect([...device.fields]).toEqual([
      [1, 0xf0],
      [2, 0xf0],
      [5, 0xf0],
      [6, 0x30],
    ]);
    expect(hashFields(device.shim, device.ifindex, Flow.UDP4)).toBe(0xf0);
  });
});
