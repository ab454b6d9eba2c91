/** Key, table, hash types and queues of a port with real traffic, changed while it flows. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Memory } from '../../src/memory/shared.ts';
import { DEFAULT_KEY, SYMMETRIC_KEY } from '../../src/rss/key.ts';
import { retaIndex } from '../../src/rss/redirection.ts';
import { RssHash } from '../../src/rss/toeplitz.ts';
import {
  addsUp,
  buildLab,
  expectNoDrops,
  expectUnharmed,
  ownedBy,
  passed,
  Scene,
  type Traffic,
  until,
} from '../support/harness.ts';

const WITNESS = new URL('../fixtures/handlers/witness.mjs', import.meta.url);
const FLOWS = 128;
const FIRST_PORT = 20_000;
const QUEUES = 4;
const HEX = (key: Uint8Array): string => Buffer.from(key).toString('hex');

interface Open {
  readonly scene: Scene;
  readonly traffic: Traffic;
  /** The workers, as bits, that each flow is seen by from now on, once all have been seen. */
  readonly workers: () => Promise<number[]>;
  /** The workers, as bits, that the settings in force name for each flow. */
  readonly wanted: () => number[];
}

interface OpenOptions {
  readonly deviceQueues?: number;
  readonly rss?: 'software';
  readonly configuration?: { readonly queues: number[] };
}

async function open({ deviceQueues = 2, rss, configuration }: OpenOptions = {}): Promise<Open> {
  const lab = await buildLab({ queues: deviceQueues });
  const seen = new Int32Array(new SharedArrayBuffer(16 * FLOWS));
  const scene = await Scene.openIn(lab, {
    ...{ queues: QUEUES, handler: WITNESS, rss, configuration },
    handlerOptions: { address: lab.nic.guestAddress, seen, first: FIRST_PORT },
  });
  const traffic = await scene.drive({ flows: FLOWS, firstPort: FIRST_PORT, rate: 10_000, icmpRate: 1000 });
  const masks = (): number[] =>
    Array.from({ length: FLOWS }, (_, flow) => seen[4 * flow + 1]! | seen[4 * flow + 2]!);
  const workers = async (): Promise<number[]> => {
    seen.fill(0);
    await until('every flow seen', () => masks().every((mask) => mask !== 0));
    await passed(traffic, 4 * FLOWS);
    return masks();
  };
  const wanted = (): number[] => {
    const { key, table, hashTypes } = scene.port.rss;
    const packet = new DataView(new ArrayBuffer(42));
    packet.setUint32(12, 0x0800_4500);
    packet.setUint32(20, 0x4011);
    const address = (text: string): number =>
      text.split('.').reduce((all, part) => (all << 8) | Number(part), 0);
    packet.setInt32(26, address(lab.nic.outsideAddress));
    packet.setInt32(30, address(lab.nic.guestAddress));
    packet.setUint16(36, 7);
    const bits = ['ipv4', 'tcp4', 'udp4', 'ipv6', 'tcp6', 'udp6'].reduce(
      (all, type, i) => all | (hashTypes!.includes(type as 'ipv4') ? 1 << i : 0),
      0,
    );
    const hash = new RssHash(packet, Buffer.from(key!, 'hex'), bits);
    return Array.from({ length: FLOWS }, (_, flow) => {
      packet.setUint16(34, FIRST_PORT + flow);
      return 1 << table![retaIndex(hash.of(0, 42))]!;
    });
  };
  return { scene, traffic, workers, wanted };
}

/** @param ordered with a queue of the VF for each worker: what is sent through another worker may be reordered */
async function finish({ scene }: Open, ordered = false): Promise<void> {
  const { port } = scene;
  await scene.whole();
  const [report] = await scene.finish();
  const { packets, icmp } = report!;
  expect([packets, icmp]).toMatchObject(Array(2).fill({ lost: 0, duplicated: 0, unknown: 0 }));
  if (ordered) expectUnharmed(report!);
  expectNoDrops(port);
  await addsUp(port);
}

describe('RSS at run time', () => {
  it('a flow is where key, table and hash types put it, and stays there until they change', async () => {
    const opened = await open();
    const { port } = opened.scene;
    expect(port.rss).toEqual({
      spreadBy: 'software',
      key: HEX(DEFAULT_KEY),
      table: Array.from({ length: 128 }, (_, i) => i % QUEUES),
      hashTypes: ['ipv4', 'tcp4', 'udp4', 'ipv6', 'tcp6', 'udp6'],
    });
    const check = async (): Promise<void> => {
      const wanted = opened.wanted();
      for (let times = 0; times < 2; times++) expect(await opened.workers()).toEqual(wanted);
    };
    await check();
    await port.configure({ rss: { key: 'symmetric' } });
    expect(port.rss.key).toBe(HEX(SYMMETRIC_KEY));
    await check();
    await opened.scene.plug();
    await ownedBy(port, 'vf');
    await check();
    await port.configure({ rss: { table: [3, 3, 1, 3] } });
    expect(new Set(await opened.workers())).toEqual(new Set([0b1000, 0b0010]));
    await check();
    await port.configure({ rss: { hashTypes: ['ipv4'] } });
    expect(new Set(await opened.workers()).size).toBe(1); // one pair of addresses
    await check();
    await port.configure({ rss: { hashTypes: [] } });
    expect(new Set(await opened.workers())).toEqual(new Set([0b1000])); // the first entry
    await port.stopQueue(3);
    expect(new Set(await opened.workers())).toEqual(new Set([0b0010])); // the only other that the table names
    await opened.scene.unplug();
    await ownedBy(port, 'synthetic');
    expect(new Set(await opened.workers())).toEqual(new Set([0b0010]));
    await port.configure({ rss: null, queues: null });
    await check();
    expect(port.rss.key).toBe(HEX(DEFAULT_KEY));
    await finish(opened);
  });

  it('flows move with every change of key, table, hash types and queues, and keep their order on the way', async () => {
    const opened = await open({ deviceQueues: QUEUES, rss: 'software' });
    const { port } = opened.scene;
    await opened.scene.plug();
    await ownedBy(port, 'vf');
    const queue = fc.nat(QUEUES - 1);
    const change = fc.record(
      {
        rss: fc.record(
          {
            key: fc.constantFrom('default', 'symmetric', '5a'.repeat(40), null),
            table: fc.oneof(
              fc.constant(null),
              fc
                .constantFrom(1, 8, 128)
                .chain((length) => fc.array(queue, { minLength: length, maxLength: length })),
            ),
          },
          { requiredKeys: [] },
        ),
        queues: fc.oneof(fc.constant(null), fc.uniqueArray(queue, { minLength: 1 })),
      },
      { requiredKeys: [] },
    );
    for (const [number, one] of fc.sample(change, 60).entries()) {
      await port.configure(one);
      await passed(opened.traffic, 50);
      if (number % 10 === 9) expect(await opened.workers()).toEqual(opened.wanted());
    }
    expect(port.stats().handedOver).toBeGreaterThan(0);
    await finish(opened, true);
  });

  it('a change that is refused changes nothing, and names what is wrong', async () => {
    const opened = await open();
    const { port } = opened.scene;
    const before = port.rss;
    const refused: [object, RegExp][] = [
      [{ rss: { key: 'short' } }, /rssKey/],
      [{ rss: { table: [0, 1, 2] } }, /power of two/],
      [{ rss: { table: [0, 4] } }, /no queue 4/],
      [{ rss: { hashTypes: ['sctp4'] } }, /sctp4 is none of/],
      [{ rss: { hash: 'crc' } }, /rss|hash/],
      [{ queues: [] }, /none is left/],
      [{ mode: 'sleep' }, /poll, adaptive, interrupt/],
    ];
    for (const [change, message] of refused) await expect(port.configure(change)).rejects.toThrow(message);
    expect(port.rss).toEqual(before);
    expect(port.configuration.generation).toBe(0);
    await finish(opened);
  });
});

describe('a queue that is stopped', () => {
  it('stays so while the VF leaves and returns, its worker sleeps, and it gets the same flows back', async () => {
    const opened = await open();
    const { scene, traffic } = opened;
    const { port } = scene;
    const before = await opened.workers();
    await port.stopQueue(1);
    await scene.plug();
    await ownedBy(port, 'vf');
    expect((await opened.workers()).filter((mask) => (mask & 0b10) !== 0)).toEqual([]);
    await scene.unplug();
    await ownedBy(port, 'synthetic');
    expect((await opened.workers()).filter((mask) => (mask & 0b10) !== 0)).toEqual([]);
    expect(port.configuration.queues).toEqual([0, 2, 3]);
    expect(port.activeQueues).toEqual([0, 2, 3]);
    const asleep = Memory.attach(port.shared).workers[1]!;
    await until('its worker asleep', () => Atomics.load(asleep.words, asleep.at('sleeping')) === 1);
    await port.startQueue(1);
    await passed(traffic);
    expect(await opened.workers()).toEqual(before);
    await finish(opened);
  });
});

describe('a queue', () => {
  it('that was not started with the port gets flows once it is', async () => {
    const opened = await open({ configuration: { queues: [1, 3] } });
    const { port } = opened.scene;
    expect(port.activeQueues).toEqual([1, 3]);
    const of = async (): Promise<number> => (await opened.workers()).reduce((all, mask) => all | mask, 0);
    expect(await of()).toBe(0b1010);
    await opened.scene.plug();
    await ownedBy(port, 'vf');
    expect(await of()).toBe(0b1010);
    await port.startQueue(0);
    expect(await of()).toBe(0b1011);
    await port.setQueues(QUEUES);
    expect(await of()).toBe(0b1111);
    await finish(opened);
  });
});

describe('a VF that alone is to spread the flows', () => {
  it('and cannot refuses what is asked for, and both paths are as they were', async () => {
    const scene = await Scene.open({ port: { rss: 'device' } });
    const { port } = scene;
    const traffic = await scene.drive();
    await scene.plug();
    const before = port.rss;
    expect(before).toEqual({ spreadBy: 'device', key: null, table: null, hashTypes: null });
    for (const change of [
      { queues: [0] },
      { rss: { key: 'symmetric' } },
      { rss: { hashTypes: ['ipv4'] } },
    ] as const) {
      await expect(port.configure({ ...change, mtu: 1400 })).rejects.toMatchObject({
        code: 'ERR_DEVICE_SETTINGS',
        device: 'vf0',
        detail: 'it has no RSS table that can be set',
      });
    }
    expect(port.rss).toEqual(before);
    expect(port.activeQueues).toEqual([0, 1]);
    expect(port.configuration).toMatchObject({ generation: 0, mtu: null, queues: null });
    await ownedBy(port, 'vf');
    await passed(traffic);
    const [report] = await scene.finish();
    expectUnharmed(report!);
    expect(scene.errors).toEqual([]);
  });

  it('and comes when that is configured is used with its own settings, and says what it refuses', async () => {
    const scene = await Scene.open({ port: { rss: 'device' } });
    const { port } = scene;
    await port.configure({ rss: { table: [1, 0] } });
    await scene.plug();
    await until(
      'the refusal, and the VF described',
      () => scene.errors.length > 0 && scene.paths.vf !== undefined,
    );
    expect(scene.errors[0]).toMatchObject({ code: 'ERR_DEVICE_SETTINGS', device: 'vf0' });
    expect(scene.paths.vf!.refused).toHaveLength(1);
    await scene.unplug();
    await scene.finish();
  });
});
