/** Packets that go from ring to ring in the handler's own loop: as its twin says, as by way of a burst, through deaths. */

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Dispatch } from '../../../src/datapath/dispatch.ts';
import type { ForwardPort } from '../../../src/datapath/forward.ts';
import { PortQueue } from '../../../src/datapath/port-queue.ts';
import { takeOver } from '../../../src/datapath/takeover.ts';
import { DeliveredBurst } from '../../../src/delivered-burst.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { DELIVER, DROP, FORWARD, PASS, TEE, TX } from '../../../src/handler/handler.ts';
import { wasmHandler } from '../../../src/handler/wasm-handler.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { pathCounters, queueCounters, readCounters } from '../../../src/memory/counters.ts';
import { DeliveryReceiver, DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { BURST, IN_PLACE_BURST, Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { InPlaceWord } from '../../../src/memory/wasm-abi.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { limitSentBytes } from '../../../src/paths/packet-limit.ts';
import type { RingQueue } from '../../../src/paths/ring-queue.ts';
import { inPlaceTwin } from '../../models/in-place-twin.ts';
import { ringOperationsTwin } from '../../models/ring-operations-twin.ts';
import { memoryQueue } from '../../support/memory-queue.ts';

const FRAMES = 4096;
const POST = 0xfd;
const TRAP = 0xfe;
const DEEDS = readFileSync(new URL('../../../dist/test/fixtures/wasm/deeds.wasm', import.meta.url));

interface Packet {
  readonly deed: number;
  readonly target: number;
  readonly length: number;
}

function opened(ringEntries: number): Memory {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: FRAMES, ringEntries },
  });
  const device = new MemoryDevice(memory, 0, Path.VF, 'vf');
  device.open();
  device.arm();
  return memory;
}

/** A queue of one path, its peer, and the handler `deeds`. */
class Bench {
  readonly memory: Memory;
  readonly pool: FramePool;
  readonly path: RingQueue;
  readonly dispatch: Dispatch;
  readonly burst: Burst;
  readonly failures: string[] = [];
  readonly back: string[] = [];
  readonly #peer: MemoryPeer;
  #number = 0;

  constructor(ringEntries = 256) {
    const memory = opened(ringEntries);
    const { layout } = memory;
    this.memory = memory;
    this.pool = new FramePool(memory, 0);
    this.path = memoryQueue(memory, this.pool, { port: 0, queue: 0, path: Path.VF });
    this.pool.owners.recover([this.path]);
    this.burst = new Burst(memory, 0);
    memory.bytes.set([2, 0, 0, 0, 0, 2], layout.macs);
    const { handle, inPlace } = wasmHandler(
      ...(['file:///deeds.wasm', DEEDS, {}, { queue: 0, queues: 1 }, memory] as const),
    );
    const forwardTable = { ports: [] as ForwardPort[], relays: [] };
    this.dispatch = new Dispatch({
      ...{ shim: loadShim(), memory, pool: this.pool, burst: this.burst, port: 0, queue: 0 },
      ...{ handler: handle, inPlace, forwardTable },
      failed: (error) => void this.failures.push(String(error)),
      delivery: new DeliverySender(memory, this.pool, this.burst, 0, 0),
    });
    this.dispatch.out = this.path;
    forwardTable.ports = [this.dispatch.forwardPort];
    this.#peer = MemoryPeer.attach(memory, 0, 0, Path.VF)!;
    this.path.refill();
  }

  give(packets: readonly Packet[]): number {
    let i = 0;
    return this.#peer.deliver(packets.length, (at) => {
      const { deed, target, length } = packets[i++]!;
      this.memory.bytes.fill(0, at, at + 14);
      this.memory.bytes.set([deed, target, 0], at);
      this.memory.view.setUint32(at + 4, this.#number++);
      return length;
    });
  }

  /** The device's MTU changes. */
  limit(maxPacketBytes: number): void {
    limitSentBytes(this.memory, 0, Path.VF, maxPacketBytes);
    this.dispatch.readLimit();
  }

  /** In the handler's own loop. */
  inPlace(most: number): number {
    const handled = this.dispatch.inPlace.run(this.path, this.path.inPlace!, most);
    this.#settle();
    return handled;
  }

  /** By way of the burst. */
  handle(packets: number): void {
    for (let left = packets; left > 0; ) {
      const count = this.path.rx.receive(this.burst, Math.min(left, BURST));
      this.dispatch.run(count, Path.VF);
      this.path.rx.release();
      left -= count;
    }
    this.#settle();
  }

  /** Each as its first bytes and its length. */
  collect(most: number): void {
    this.#peer.collect(most, (at, length) => {
      this.back.push(`${Buffer.from(this.memory.bytes.slice(at, at + 8)).toString('hex')} ${length}`);
    });
  }

  get counters() {
    const { memory } = this;
    const { bursts: _, ...queue } = readCounters(memory, queueCounters(memory, 0, 0));
    return { queue, path: readCounters(memory, pathCounters(memory, 0, 0, Path.VF)) };
  }

  get delivered(): number {
    return new DeliveryReceiver(this.memory, new DeliveredBurst(this.memory), 0, 0).read(FRAMES);
  }

  /** Every frame is in one place. */
  whole(): void {
    const { fill, rx, tx, completing } = this.path.ledger();
    expect(this.pool.count + fill + rx + tx + completing + this.delivered).toBe(FRAMES);
    expect(this.pool.owners.duplicates([this.path])).toBe(0);
  }

  #settle(): void {
    this.path.tx.flush();
    this.path.tx.complete();
    this.path.refill();
  }
}

const length = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 14, max: 1792 }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 13, 14, 1792, 1793, 2040) },
);
/** What the path sends, at most. */
const maxPacketBytes = fc.constantFrom(14, 60, 1018, 1518, 1792);
const OTHERS = [DROP, FORWARD, PASS, DELIVER, TX | TEE, FORWARD | TEE, PASS | TEE, DELIVER | TEE, 77];
const deeds = (...rare: number[]) =>
  fc.oneof(
    { weight: 20, arbitrary: fc.constant<number>(TX) },
    { weight: 3, arbitrary: fc.constantFrom<number>(...OTHERS, ...rare) },
    { weight: 1, arbitrary: fc.nat(0xfc) },
  );
const packetsOf = (deed: fc.Arbitrary<number>, maxLength = 300) =>
  fc.array(fc.record({ deed, target: fc.constantFrom(0, 0, 3), length }), { maxLength, size: 'max' });

/** Cursors that pass 2^31 and the end of the rings. */
const start = fc.oneof(fc.integer(), fc.integer({ min: 2 ** 31 - 300, max: 2 ** 31 - 1 }));

it('the in-place loop in WebAssembly writes the same bytes before the frames as its model', () => {
  const memories = [opened(256), opened(256)];
  const loops = memories.map((memory, i) => {
    const pool = new FramePool(memory, 0);
    pool.owners.recover([]);
    const { inPlace: rings } = memoryQueue(memory, pool, { port: 0, queue: 0, path: Path.VF });
    const deed = wasmHandler('file:///deeds.wasm', DEEDS, {}, { queue: 0, queues: 1 }, memory);
    const decide = (at: number): number => {
      memory.bytes[at + 2]!++;
      return memory.bytes[at]! | (memory.bytes[at + 1]! << 8);
    };
    const twin = inPlaceTwin(memory, decide);
    const source = { take: () => -1, post: () => false, put: () => {} };
    const ours = (at: number, from: number, to: number, count: number): void =>
      deed.inPlace!(source, at, from, to, count);
    return { at: rings!.at, run: i === 0 ? ours : twin };
  });
  fc.assert(
    fc.property(
      packetsOf(deeds(), 256),
      start,
      start,
      fc.nat(IN_PLACE_BURST),
      maxPacketBytes,
      (packets, from, to, wanted, most) => {
        const count = Math.min(wanted, packets.length);
        memories.forEach((memory, which) => {
          const { words, bytes } = memory;
          const { at, run } = loops[which]!;
          const slots = words[at >> 2]!;
          packets.forEach(({ deed, target, length }, i) => {
            const slot = (slots >> 2) + ((from + i) & 255) * 4;
            words.set([i * 2048 + 256, 0, length, 0], slot);
            bytes.set([deed, target, i], memory.layout.frames + i * 2048 + 256);
          });
          words.fill(0, (at + 28) >> 2, (at + 44) >> 2);
          words[(at + InPlaceWord.maxPacketBytes) >> 2] = most;
          run(at, from, to, count);
        });
        const { layout } = memories[0]!;
        // The module's context lies before the frames, too: it has been written once, and on one side only.
        const area = layout.moduleArea(0);
        const parts = [
          [65_536, area],
          [area + 262_144, layout.frames],
        ] as const;
        for (const [from, to] of parts) {
          const [ours, twins] = memories.map(({ bytes }) => Buffer.from(bytes.buffer, from, to - from));
          expect(ours!.equals(twins!)).toBe(true);
        }
        const touched = memories.map(({ bytes }) =>
          packets.map((_, i) => bytes[layout.frames + i * 2048 + 256 + 2]),
        );
        expect(touched[0]).toEqual(touched[1]);
      },
    ),
    { numRuns: 300 },
  );
});

it.each([
  { way: 'and some of the handler’s own', rare: [POST], share: 2 },
  { way: 'and no others', rare: [], share: 1 },
])(
  'packets handled in place, $way, take the same ways as by bursts, with the same counters and frames',
  ({ rare, share }) => {
    const step = fc.record({
      packets: packetsOf(deeds(...rare)),
      most: fc.integer({ min: 1, max: IN_PLACE_BURST }),
      takes: fc.nat(300),
      maxPacketBytes,
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 8 }), fc.constantFrom(64, 128, 256), (steps, entries) => {
        const [ours, plain] = [new Bench(entries), new Bench(entries)];
        for (const { packets, most, takes, maxPacketBytes } of steps) {
          for (const one of [ours, plain]) one.limit(maxPacketBytes);
          expect(ours.give(packets)).toBe(plain.give(packets));
          // Each of the packets may bring another one, for which there is room whichever goes first.
          const room = Math.floor(ours.path.tx.room(IN_PLACE_BURST) / share);
          if (room > 0) plain.handle(ours.inPlace(Math.min(most, room)));
          for (const one of [ours, plain]) {
            one.collect(takes);
            one.path.tx.complete();
            one.path.refill();
            one.whole();
          }
        }
        for (const one of [ours, plain]) one.collect(FRAMES);
        // The rest of a burst follows what an in-place call sends; among those that are sent the order stays.
        expect(ours.back.toSorted()).toEqual(plain.back.toSorted());
        const sentBack = ({ back }: Bench) => back.filter((one) => one.startsWith('0100'));
        expect(sentBack(ours)).toEqual(sentBack(plain));
        expect(ours.counters).toEqual(plain.counters);
        expect(ours.delivered).toBe(plain.delivered);
      }),
      { numRuns: 100 },
    );
  },
);

describe('an in-place call', () => {
  const packets = (count: number, deed: number = TX): Packet[] =>
    Array.from({ length: count }, () => ({ deed, target: 0, length: 60 }));

  it('that traps drops no more than a burst, and the packets that it has finished are sent', () => {
    const bench = new Bench();
    bench.give([...packets(100), ...packets(1, TRAP), ...packets(99)]);
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(128);
    bench.whole();
    bench.collect(IN_PLACE_BURST);
    expect(bench.back).toHaveLength(64);
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(72);
    bench.collect(IN_PLACE_BURST);
    expect(bench.back).toHaveLength(136);
    expect(bench.failures).toEqual(['RuntimeError: unreachable']);
    const { queue, path } = bench.counters;
    expect(queue).toMatchObject({ handlerErrors: 1, dropHandlerError: 64 });
    expect(path).toMatchObject({ rxPackets: 200, rxBytes: 200 * 60, txPosted: 136, txBytes: 136 * 60 });
    bench.whole();
  });

  it('takes no more than there is room for, and leaves the rest in the ring', () => {
    const bench = new Bench(64);
    bench.give(packets(64));
    expect(bench.inPlace(40)).toBe(40);
    bench.give(packets(40));
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(24);
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(0);
    bench.whole();
    bench.collect(IN_PLACE_BURST);
    bench.path.tx.complete();
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(40);
  });

  it('ends when the burst is full of what is not sent', () => {
    const bench = new Bench();
    bench.give([...packets(30), ...packets(100, DROP), ...packets(30)]);
    // In portions of which all could be left: 64 packets with 34 left, then 30.
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(94);
    expect(bench.counters.queue.dropVerdict).toBe(64);
    expect(bench.inPlace(IN_PLACE_BURST)).toBe(66);
    expect(bench.counters.queue.dropVerdict).toBe(100);
    bench.whole();
  });

  it('refuses a packet of the handler’s own that the ring has no room for behind the in-place call', () => {
    const bench = new Bench(64);
    bench.give(packets(64, POST));
    expect(bench.inPlace(60)).toBe(60);
    expect(bench.counters.queue).toMatchObject({ sent: 4, sendRefused: 56 });
    bench.collect(IN_PLACE_BURST);
    expect(bench.back).toHaveLength(64);
    bench.whole();
  });
});

it('once a handler has teed a packet that it sends, its packets go by bursts, and keep their order', () => {
  const memory = opened(256);
  const [pool, burst] = [new FramePool(memory, 0), new Burst(memory, 0)];
  const scope = { shim: loadShim(), memory, pool, burst, queue: 0 };
  const { handle: handler, inPlace } = wasmHandler(
    ...(['file:///deeds.wasm', DEEDS, {}, { queue: 0, queues: 1 }, memory] as const),
  );
  const order = ownerWord(1, Path.VF, pathBit(Path.VF));
  Atomics.store(memory.words, memory.queue(0, 0).at('owner'), order);
  const port = new PortQueue({
    ...{ ...scope, port: 0, handler, inPlace, hashTables: undefined },
    ...{ forwardTable: { ports: [], relays: [] }, notifySupervisor: () => {}, failed: () => {} },
    delivery: new DeliverySender(memory, pool, burst, 0, 0),
  });
  takeOver(scope, [port]);
  port.poll();
  const peer = MemoryPeer.attach(memory, 0, 0, Path.VF)!;
  const { view } = memory;
  const sent: number[] = [];
  let number = 0;
  const round = (...verdicts: number[]): void => {
    peer.deliver(verdicts.length, (at) => {
      view.setUint32(at, verdicts[number % verdicts.length]! << 24);
      view.setUint32(at + 4, number++);
      return 60;
    });
    port.poll();
    peer.collect(256, (at) => void sent.push(view.getUint32(at + 4)));
  };
  round(TX, TX, TX, TX);
  expect([sent.splice(0), port.dispatch.sendsTeed]).toEqual([[0, 1, 2, 3], false]);
  round(TX, TX | TEE, TX, TX);
  expect([sent.splice(0), port.dispatch.sendsTeed]).toEqual([[4, 6, 7, 5], true]);
  round(TX, TX | TEE, TX, TX | TEE);
  expect(sent).toEqual([8, 9, 10, 11]);
});

class Death extends Error {}

it('a worker that dies at any moment of in-place calls neither loses nor doubles a frame, and sends no packet twice', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 12 }), (deaths) => {
      const memory = opened(128);
      const { view, layout } = memory;
      const peer = MemoryPeer.attach(memory, 0, 0, Path.VF)!;
      let left = Number.POSITIVE_INFINITY;
      const mortal = (): void => {
        if (--left === 0) throw new Death();
      };
      const ringOps = ringOperationsTwin(memory, mortal);
      const burst = new Burst(memory, 0);
      // Every fifth is dropped, every seventh goes the way by the burst.
      const decide = (at: number): number => {
        const number = view.getUint32(at);
        if (number % 5 === 4) return DROP;
        return number % 7 === 3 ? 77 : TX;
      };
      const loop = inPlaceTwin(memory, decide, mortal);
      const back: number[] = [];
      let sent = 0;
      const start = (): { pool: FramePool; queue: RingQueue } => {
        const pool = new FramePool(memory, 0);
        const queue = memoryQueue(memory, pool, { port: 0, queue: 0, path: Path.VF }, ringOps);
        pool.owners.recover([queue]);
        const { fill, rx, tx, completing } = queue.ledger();
        expect(pool.count + fill + rx + tx + completing).toBe(FRAMES);
        expect(pool.owners.duplicates([queue])).toBe(0);
        return { pool, queue };
      };
      let { pool, queue } = start();
      const round = (): void => {
        const inPlace = queue.inPlace!;
        const count = inPlace.begin(100);
        if (count > 0) loop(inPlace.at, inPlace.from, inPlace.to, count);
        const rest = count > 0 ? inPlace.end() : 0;
        mortal();
        for (let i = 0; i < rest; i++) {
          if (burst.verdict[i] === 77) {
            burst.verdict[i] = TX;
            expect(queue.tx.pushBurst(burst.at, i, i + 1, 1792)).toBe(1);
          } else pool.put(burst.offset[i]! - layout.frames);
          mortal();
        }
        queue.rx.release();
        mortal();
        queue.tx.flush();
        mortal();
        queue.tx.complete();
        queue.refill();
      };
      const network = (): void => {
        peer.collect(64, (offset) => back.push(view.getUint32(offset)));
        peer.deliver(70, (offset) => {
          view.setUint32(offset, sent++);
          return 60;
        });
      };
      queue.refill();
      for (const after of deaths) {
        left = after;
        try {
          for (let i = 0; i < 20; i++) {
            network();
            round();
          }
        } catch (error) {
          if (!(error instanceof Death)) throw error;
        }
        left = Number.POSITIVE_INFINITY;
        ({ pool, queue } = start());
      }
      for (let i = 0; i < 40; i++) {
        round();
        peer.collect(128, (offset) => back.push(view.getUint32(offset)));
      }
      queue.tx.complete();
      const all = Array.from({ length: sent }, (_, i) => i).filter((i) => i % 5 !== 4);
      expect(back.toSorted((a, b) => a - b)).toEqual(all);
      const { fill, ...others } = queue.ledger();
      expect({ free: pool.count + fill, ...others }).toEqual({ free: FRAMES, rx: 0, tx: 0, completing: 0 });
    }),
    { numRuns: 300 },
  );
});
