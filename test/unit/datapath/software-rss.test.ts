/** Workers of one port while key and table change: which worker handles a packet, and in which order those of a flow. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PortQueue } from '../../../src/datapath/port-queue.ts';
import { takeOver } from '../../../src/datapath/takeover.ts';
import { Burst } from '../../../src/handler/burst.ts';
import { TX } from '../../../src/handler/handler.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { ownerWord, pathBit } from '../../../src/memory/bit-fields.ts';
import { DeliverySender } from '../../../src/memory/delivery-ring.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { Path, type PathId } from '../../../src/memory/layout.ts';
import { writeRss } from '../../../src/memory/rss-block.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { MemoryDevice } from '../../../src/paths/memory/device.ts';
import { MemoryPeer } from '../../../src/paths/memory/peer.ts';
import { ALL_HASHED } from '../../../src/rss/configuration.ts';
import { DEFAULT_KEY, SYMMETRIC_KEY } from '../../../src/rss/key.ts';
import { retaIndex } from '../../../src/rss/redirection.ts';
import { HashTables, RssHash } from '../../../src/rss/toeplitz.ts';

const QUEUES = 3;
const BYTES = 60;
/** Where a packet has its number. */
const NUMBER = 42;

interface Handled {
  readonly queue: number;
  readonly flow: number;
  readonly number: number;
}

/** The workers of a port in one thread; the test decides whose turn it is. */
class Workers {
  readonly memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: QUEUES, frameSize: 2048, framesPerWorker: 1024, ringEntries: 256 },
  });
  readonly handled: Handled[] = [];
  readonly clock = { millis: 0 };
  /** What happens while that queue's handler runs. */
  meanwhile: (queue: number) => void = () => {};
  readonly #ports: { port: PortQueue; pool: FramePool }[] = [];
  #sent = 0;

  constructor(table: readonly number[]) {
    const { memory, clock } = this;
    for (const path of [Path.SYNTHETIC, Path.VF]) {
      const device = new MemoryDevice(memory, 0, path, `memory${path}`);
      device.open();
      device.arm();
    }
    this.change(DEFAULT_KEY, table, false);
    const shim = { write: () => 8, millis: () => clock.millis } as unknown as Shim;
    for (let queue = 0; queue < QUEUES; queue++) {
      const order = ownerWord(1, Path.SYNTHETIC, pathBit(Path.SYNTHETIC) | pathBit(Path.VF));
      Atomics.store(memory.words, memory.queue(0, queue).at('owner'), order);
      const pool = new FramePool(memory, queue);
      const burst = new Burst(memory, queue);
      const port = new PortQueue({
        ...{ shim, memory, pool, burst, port: 0, queue, forwardTable: { ports: [], relays: [] } },
        delivery: new DeliverySender(memory, pool, burst, 0, queue),
        ...{ notifySupervisor: () => {}, failed: () => {}, inPlace: undefined },
        hashTables: new HashTables(1),
        handler: () => {
          this.meanwhile(queue);
          for (let i = 0; i < burst.length; i++) {
            const at = burst.offset[i]!;
            const { view } = memory;
            this.handled.push({ queue, flow: view.getUint16(at + 34), number: view.getUint32(at + NUMBER) });
            burst.verdict[i] = TX;
          }
        },
      });
      takeOver({ shim, memory, pool, burst, queue }, [port]);
      this.#ports.push({ port, pool });
      this.turn(queue);
    }
  }

  change(key: Uint8Array, table: readonly number[], ordered = true): void {
    const whole = Uint8Array.from({ length: 128 }, (_, i) => table[i % table.length]!);
    writeRss(this.memory, 0, { key, hashTypes: ALL_HASHED, table: whole }, ordered);
  }

  /** A packet of a flow for the device's queue of that worker. */
  deliver(queue: number, flow: number, path: PathId = Path.SYNTHETIC): void {
    const { view } = this.memory;
    const peer = MemoryPeer.attach(this.memory, 0, queue, path)!;
    peer.collect(256, () => {});
    peer.deliver(1, (at) => {
      write(view, at, flow);
      view.setUint32(at + NUMBER, this.#sent++);
      return BYTES;
    });
  }

  turn(queue: number): void {
    const { port, pool } = this.#ports[queue]!;
    pool.collect();
    port.poll();
    pool.flush();
    MemoryPeer.attach(this.memory, 0, queue, Path.SYNTHETIC)?.collect(256, () => {});
  }

  waits(queue: number): boolean {
    return this.#ports[queue]!.port.hasUnpolledWork;
  }

  get sent(): number {
    return this.#sent;
  }
}

function write(view: DataView, at: number, flow: number): void {
  view.setUint32(at + 12, 0x0800_4500);
  view.setUint32(at + 16, (BYTES - 14) << 16);
  view.setUint32(at + 20, 0x4011);
  view.setUint32(at + 26, 0x0a00_0001);
  view.setUint32(at + 30, 0x0a00_0002);
  view.setUint16(at + 34, flow);
}

const packet = new DataView(new ArrayBuffer(BYTES));
function entryOf(flow: number, key: Uint8Array): number {
  write(packet, 0, flow);
  return retaIndex(new RssHash(packet, key).of(0, BYTES));
}

describe('a worker that sees another table', () => {
  it('receives nothing until the worker that had the flow has sent what it was given', () => {
    const workers = new Workers([1]);
    workers.deliver(0, 7);
    workers.turn(0);
    workers.change(DEFAULT_KEY, [2]);
    workers.deliver(0, 7);
    for (let turns = 0; turns < 20; turns++) {
      workers.turn(0);
      workers.turn(2);
    }
    expect(workers.handled).toEqual([]);
    expect(workers.waits(0)).toBe(true);
    workers.turn(1);
    workers.turn(0);
    workers.turn(2);
    expect(workers.handled).toEqual([
      { queue: 1, flow: 7, number: 0 },
      { queue: 2, flow: 7, number: 1 },
    ]);
    expect(workers.waits(0)).toBe(false);
  });

  it('does not wait for one that waits for it', () => {
    const workers = new Workers([0, 1]);
    const flows = [0, 1].map((to) => {
      for (let flow = 1; ; flow++) if (entryOf(flow, DEFAULT_KEY) % 2 === to) return flow;
    });
    // By the VF, which has just joined, each gets a packet of its own and one that it hands over.
    for (const queue of [0, 1]) for (const flow of flows) workers.deliver(queue, flow, Path.VF);
    // What is handed over waits for what the NetVSC brings before that is taken.
    workers.meanwhile = (queue) => workers.deliver(queue, flows[queue]!);
    for (const queue of [0, 1]) workers.turn(queue);
    expect(workers.handled).toHaveLength(2);
    workers.meanwhile = () => {};
    workers.change(DEFAULT_KEY, [0, 1]);
    for (let turns = 0; turns < 3; turns++) for (const queue of [0, 1]) workers.turn(queue);
    expect([0, 1].map((queue) => workers.waits(queue))).toEqual([false, false]);
    expect(workers.handled).toHaveLength(6);
  });

  it('does not wait for ever, and not at all if the other worker may be dead', () => {
    for (const ordered of [true, false]) {
      const workers = new Workers([1]);
      workers.deliver(0, 7);
      workers.turn(0);
      workers.change(DEFAULT_KEY, [2], ordered);
      workers.deliver(0, 7);
      workers.turn(0);
      workers.turn(2);
      expect(workers.handled).toHaveLength(ordered ? 0 : 1);
      workers.clock.millis = 1_000;
      workers.turn(0);
      workers.turn(2);
      expect(workers.handled).toEqual([{ queue: 2, flow: 7, number: 1 }]);
    }
  });
});

it('each packet is handled once, by the worker that the settings name, and those of a flow in order, whoever is slow', () => {
  const queue = fc.nat(QUEUES - 1);
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ what: fc.constant('turn' as const), queue }) },
    { weight: 4, arbitrary: fc.record({ what: fc.constant('deliver' as const), flow: fc.nat(5) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        what: fc.constant('change' as const),
        key: fc.constantFrom(DEFAULT_KEY, SYMMETRIC_KEY),
        table: fc.constantFrom(1, 2, 8).chain((n) => fc.array(queue, { minLength: n, maxLength: n })),
      }),
    },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const workers = new Workers([0, 1, 2]);
      let table: readonly number[] = [0, 1, 2];
      let key = DEFAULT_KEY;
      for (const one of steps) {
        if (one.what === 'turn') workers.turn(one.queue);
        else if (one.what === 'deliver') workers.deliver(one.flow % QUEUES, one.flow);
        else {
          ({ table, key } = one);
          workers.change(key, table);
        }
      }
      const turns = (): void => {
        for (let i = 0; i < 40; i++) workers.turn(i % QUEUES);
      };
      turns();
      expect(workers.handled).toHaveLength(workers.sent);
      for (let flow = 0; flow < 6; flow++) {
        const numbers = workers.handled.filter((one) => one.flow === flow).map(({ number }) => number);
        expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
      }
      // From the last change on, all of them go where it says.
      const before = workers.handled.length;
      for (let flow = 0; flow < 6; flow++) workers.deliver(flow % QUEUES, flow);
      turns();
      const last = workers.handled.slice(before);
      expect(last).toHaveLength(6);
      for (const { queue: by, flow } of last) {
        const whole = Array.from({ length: 128 }, (_, i) => table[i % table.length]!);
        expect(by).toBe(whole[entryOf(flow, key)]);
      }
    }),
    { numRuns: 200 },
  );
});

it('ports with the same key share a table, and no more tables are kept than ports', () => {
  const tables = new HashTables(2);
  const first = tables.of(DEFAULT_KEY);
  expect(tables.of(Uint8Array.from(DEFAULT_KEY))).toBe(first);
  const second = tables.of(SYMMETRIC_KEY);
  expect(tables.of(DEFAULT_KEY)).toBe(first);
  tables.of(Uint8Array.from({ length: 40 }, (_, i) => i));
  expect(tables.of(DEFAULT_KEY)).toBe(first);
  expect(tables.of(SYMMETRIC_KEY)).not.toBe(second);
});
