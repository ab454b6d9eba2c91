/** What a device has said about packets, in the burst of the handler: of each packet its own, or nothing. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Dispatch } from '../../../src/datapath/dispatch.ts';
import { handoffSource } from '../../../src/datapath/handler-call.ts';
import { SoftwareRss } from '../../../src/datapath/software-rss.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DROP, type Handler } from '../../../src/handler/handler.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../../src/memory/layout.ts';
import { ALL_METADATA, METADATA_MARK, MetadataBit } from '../../../src/memory/metadata.ts';
import { writeRss } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { BurstArray } from '../../../src/memory/wasm-abi.ts';
import { ALL_HASHED } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY } from '../../../src/rss/key.ts';
import { HashTables } from '../../../src/rss/toeplitz.ts';
import { frameOf, noise, segment } from '../../support/segments.ts';

interface Said {
  readonly time: bigint;
  readonly hash: number;
  readonly verified: boolean;
  readonly rule: number;
}
/** A packet, and what was written before it: nothing, or metadata, with a tag of the tap in them. */
interface Given {
  readonly said: Said | undefined;
  readonly tagged: boolean;
}

const NOTHING: Said = { time: 0n, hash: 0, verified: false, rule: 0 };

const said = fc.record({
  time: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  hash: fc.nat(0xffffffff),
  verified: fc.boolean(),
  rule: fc.nat(0xffff),
});
const given = fc.record({ said: fc.option(said, { nil: undefined, freq: 4 }), tagged: fc.boolean() });

function scene(queues: number, metadata = ALL_METADATA) {
  const geometry = { pageSize: 4096, ports: 1, queues, ringEntries: 64, frameSize: 2048 };
  const memory = Memory.create({ ...geometry, framesPerWorker: 128 });
  for (let queue = 0; queue < queues; queue++) {
    for (const path of [Path.SYNTHETIC, Path.VF]) memory.slot({ port: 0, queue, path }).metadata = 1;
  }
  const workers = Array.from({ length: queues }, (_, queue) => {
    const pool = new FramePool(memory, queue);
    pool.owners.recover([]);
    const burst = new Burst(memory, queue);
    burst.metadata = metadata;
    const seen: Said[] = [];
    /** Throws at these packets, by their number in `seen`. */
    const throws = new Set<number>();
    const handler: Handler = () => {
      for (let i = 0; i < burst.length; i++) {
        const packet = burst.packet(i);
        const { time, hash, rule, checksumVerified: verified } = packet;
        seen.push({ time, hash, verified, rule: rule + 1 });
        burst.verdict[i] = DROP;
        if (throws.delete(seen.length - 1)) throw new Error('as told');
      }
    };
    const context = { shim: loadShim(), memory, pool, burst, port: 0, queue };
    const rss = new SoftwareRss({
      ...context,
      hashTables: queues > 1 ? new HashTables(1) : undefined,
    });
    const dispatch = new Dispatch({
      ...{ ...context, handler, metadata, hashes: queues > 1 },
      failed: () => {},
      forwardTable: { ports: [], relays: [] },
      delivery: new DeliverySender(memory, pool, burst, 0, queue),
    });
    return { pool, burst, dispatch, rss, seen, throws };
  });
  for (const { rss } of workers) rss.listen();
  return { memory, workers };
}

/** Puts a packet into a frame of the pool, with what is said before it; returns its offset. */
function put(
  memory: Memory,
  { pool, dispatch }: ReturnType<typeof scene>['workers'][number],
  one: Given,
  bytes: number[],
) {
  const at = dispatch.takeFrame();
  expect(pool.count).toBeGreaterThan(0);
  memory.bytes.fill(0xa5, at - HEADROOM, at);
  memory.bytes.set(bytes, at);
  if (one.said === undefined) return at;
  const { time, hash, verified, rule } = one.said;
  const start = at - 20;
  memory.view.setBigUint64(start, time, true);
  memory.view.setUint32(start + 8, hash, true);
  if (one.tagged) memory.view.setUint32(at - 8, 0x7455_88a8, true);
  memory.view.setUint16(at - 4, METADATA_MARK | (verified ? 1 : 0), true);
  memory.view.setUint16(at - 2, rule, true);
  return at;
}

const packet = frameOf(segment({ payload: noise(30, 3) }));

describe('the metadata of a burst', () => {
  it('are those of each packet, also for those after one at which the handler throws, and none is from an earlier burst', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(given, { minLength: 1, maxLength: 20 }), { maxLength: 5 }),
        fc.array(fc.nat(60)),
        fc.constantFrom(Path.SYNTHETIC, Path.VF),
        (bursts, throwAt, path) => {
          const { memory, workers } = scene(1);
          const worker = workers[0]!;
          for (const at of throwAt) worker.throws.add(at);
          for (const packets of bursts) {
            packets.forEach((one, i) => {
              worker.burst.offset[i] = put(memory, worker, one, packet);
              worker.burst.bytes[i] = packet.length;
            });
            worker.dispatch.run(packets.length, path);
          }
          expect(worker.seen).toEqual(bursts.flat().map((one) => one.said ?? NOTHING));
          expect(worker.pool.count).toBe(128);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('go with a packet to another worker, whose own packets keep theirs', () => {
    const { memory, workers } = scene(2);
    const [from, to] = workers as [(typeof workers)[0], (typeof workers)[0]];
    const table = Uint8Array.from({ length: 128 }, (_, i) => (i < 64 ? 1 : 0));
    writeRss(memory, 0, { key: DEFAULT_KEY, hashTypes: ALL_HASHED, table }, false);
    from.rss.update();
    const count = 40;
    for (let i = 0; i < count; i++) {
      const one = {
        said: { time: BigInt(i), hash: i, verified: i % 2 === 0, rule: i + 1 },
        tagged: i % 3 === 0,
      };
      from.burst.offset[i] = put(memory, from, one, frameOf(segment({ from: 1000 + i })));
      from.burst.bytes[i] = packet.length - 27;
    }
    const own = from.rss.distribute(count, Path.VF);
    from.dispatch.run(own, Path.VF);
    const handoff = to.rss.receivers[0]!;
    const handed = handoff.receive(to.burst.offset, to.burst.bytes, to.burst.hash, 64);
    to.dispatch.run(handed, Path.VF, handoffSource(0));
    expect(handed).toBeGreaterThan(5);
    expect(own).toBeGreaterThan(5);
    const all = [...from.seen, ...to.seen];
    expect(all.map(({ rule }) => rule).sort((a, b) => a - b)).toEqual(
      Array.from({ length: count }, (_, i) => i + 1),
    );
    for (const { time, rule, verified } of all) {
      expect([Number(time), verified]).toEqual([rule - 1, (rule - 1) % 2 === 0]);
    }
    // The worker's own hash comes before that of the device.
    expect(all.some(({ hash, rule }) => hash === rule - 1)).toBe(false);
  });

  const one = { said: { time: 7n, hash: 8, verified: true, rule: 9 }, tagged: false };

  it.each([
    ['of the host path', Path.HOST, undefined],
    ['that a dead worker may have had in hand', Path.VF, handoffSource(0)],
  ] as const)('are none of a packet %s', (_, path, source) => {
    const { memory, workers } = scene(1);
    const worker = workers[0]!;
    worker.burst.offset[0] = put(memory, worker, one, packet);
    worker.burst.bytes[0] = packet.length;
    worker.dispatch.run(1, path, source);
    expect(worker.seen).toEqual([NOTHING]);
  });

  it('are none on a path that gives none, whatever its frames have before the packet', () => {
    const { memory, workers } = scene(1);
    const worker = workers[0]!;
    memory.slot({ port: 0, queue: 0, path: Path.VF }).metadata = 0;
    worker.burst.offset[0] = put(memory, worker, one, packet);
    worker.burst.bytes[0] = packet.length;
    worker.dispatch.run(1, Path.VF);
    expect(worker.seen).toEqual([NOTHING]);
  });

  it('are read once: a frame that comes again without any has none', () => {
    const { memory, workers } = scene(1);
    const worker = workers[0]!;
    const at = put(memory, worker, one, packet);
    for (let times = 0; times < 2; times++) {
      worker.burst.offset[0] = at;
      worker.burst.bytes[0] = packet.length;
      worker.dispatch.run(1, Path.VF);
      if (times === 0) expect(worker.dispatch.takeFrame()).toBe(at);
    }
    expect(worker.seen).toEqual([one.said, NOTHING]);
  });

  it('leave the arrays alone that nobody asks for', () => {
    const { memory, workers } = scene(1, MetadataBit.RULE);
    const worker = workers[0]!;
    const { at } = worker.burst;
    memory.view.setBigUint64(at + BurstArray.time, 77n, true);
    memory.bytes[at + BurstArray.checksum] = 78;
    worker.burst.offset[0] = put(memory, worker, one, packet);
    worker.burst.bytes[0] = packet.length;
    worker.dispatch.run(1, Path.VF);
    expect(worker.seen[0]!.rule).toBe(9);
    expect(memory.view.getBigUint64(at + BurstArray.time, true)).toBe(77n);
    expect(memory.bytes[at + BurstArray.checksum]).toBe(78);
  });
});
