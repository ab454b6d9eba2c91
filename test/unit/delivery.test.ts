import { setImmediate as macrotask } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Deliveries } from '../../src/delivery.ts';
import { Burst } from '../../src/handler/burst.ts';
import { DeliverySender } from '../../src/memory/delivery-ring.ts';
import { FramePool } from '../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../src/memory/layout.ts';
import { MetadataBit } from '../../src/memory/metadata.ts';
import { Memory } from '../../src/memory/shared.ts';

const FRAMES = 256;

/** A port without workers: the test delivers. */
function port(queues = 2) {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
  const ends = Array.from({ length: queues }, (_, queue) => {
    const pool = new FramePool(memory, queue);
    pool.owners.recover([]);
    const burst = new Burst(memory, queue);
    return { pool, burst, sender: new DeliverySender(memory, pool, burst, 0, queue) };
  });
  let number = 0;
  /** Delivers packets of 60 bytes, which are numbered. Returns how many there was room for. */
  const give = (queue: number, count: number, path: number = Path.SYNTHETIC): number => {
    const { pool, burst, sender } = ends[queue]!;
    let given = 0;
    for (let i = 0; i < count; i++) {
      const address = pool.peek(0) + HEADROOM;
      pool.setOwner(address, pool.hand);
      pool.remove(1);
      const at = memory.layout.frames + address;
      memory.view.setUint32(at, number++);
      burst.path[0] = path;
      burst.hash[0] = number;
      if (sender.push(0, at, 60)) given++;
      else pool.put(address);
    }
    if (sender.staged > 0) sender.commit();
    return given;
  };
  const bell = memory.layout.deliveryBell(0) >> 2;
  const ring = (): void => {
    Atomics.add(memory.words, bell, 1);
    Atomics.notify(memory.words, bell);
  };
  /** Frames that the application has. */
  const lent = (queue = 0): number => {
    const { pool, sender } = ends[queue]!;
    sender.collect();
    return FRAMES - pool.count;
  };
  return { memory, deliveries: new Deliveries(memory, 0), ends, give, ring, lent };
}

const numbers = (packets: readonly { data: Buffer }[]): number[] =>
  packets.map(({ data }) => data.readUInt32BE(0));

describe('the application is woken', () => {
  /** After so many packets in one round, all of which it has read. Its ring has 64 entries. */
  const wokenFor = async (packets: number) => {
    const { deliveries, ends, give } = port(1);
    const { sender } = ends[0]!;
    expect(give(0, packets)).toBe(packets);
    expect(sender.announces(false)).toBe(true);
    const reading = deliveries.bursts();
    await reading.next();
    await reading.return();
    return { sender, give };
  };

  it('by few packets at once, and by none never', async () => {
    const { sender, give } = await wokenFor(63);
    for (let round = 0; round < 3; round++) {
      expect([sender.announces(false), sender.announces(true)]).toEqual([false, false]);
      give(0, 1);
      expect(sender.announces(false)).toBe(true);
    }
  });

  it('after many packets by the next ones together: a quarter of the ring', async () => {
    const { sender, give } = await wokenFor(64);
    give(0, 15);
    expect(sender.announces(false)).toBe(false);
    give(0, 1);
    expect(sender.announces(false)).toBe(true);
    expect(sender.announces(true)).toBe(false);
  });

  it('after many packets by a single one some rounds later, and then by each at once', async () => {
    const { sender, give } = await wokenFor(64);
    give(0, 1);
    const rounds = Array.from({ length: 65 }, () => sender.announces(false));
    expect(rounds.indexOf(true)).toBe(63);
    expect(rounds.filter(Boolean)).toHaveLength(1);
    give(0, 1);
    expect(sender.announces(false)).toBe(true);
  });

  it('before the worker sleeps, whatever is held back', async () => {
    const { sender, give } = await wokenFor(64);
    give(0, 1);
    expect([sender.announces(false), sender.announces(true)]).toEqual([false, true]);
  });
});

describe('a delivered packet', () => {
  it.each([0, 1])('of queue %i is read without a doorbell', async (queue) => {
    const { deliveries, give } = port();
    const batches = deliveries.batches();
    const first = batches.next(); // waits for the bell
    await macrotask();
    expect(give(queue, 1)).toBe(1);
    const { value } = await first;
    expect(value).toMatchObject([{ queue, hash: 1, path: 'synthetic', time: 0n }]);
    expect(value![0]!.data).toHaveLength(60);
    await batches.return();
  });

  it('has the time at which it was delivered, in nanoseconds since 1970', async () => {
    const { deliveries, give } = port();
    const before = BigInt(Date.now()) * 1_000_000n;
    give(0, 3);
    const after = BigInt(Date.now() + 1) * 1_000_000n;
    const { value } = await deliveries.batches().next();
    // What the two clocks of the machine may differ by.
    const slack = 10_000_000n;
    for (const { timestamp } of value!) {
      expect(timestamp).toBeGreaterThanOrEqual(before - slack);
      expect(timestamp).toBeLessThanOrEqual(after + slack);
      expect(timestamp).toBe(value![0]!.timestamp);
    }
  });

  it('keeps the metadata that the handler asks for, and no others', async () => {
    const { deliveries, ends, give } = port();
    const { burst } = ends[0]!;
    burst.time[0] = 0x1234_5678_9abc_def0n;
    burst.rule[0] = 3;
    burst.checksum[0] = 1;
    const seen: unknown[] = [];
    const reading = deliveries.bursts({ most: 1 });
    for (const metadata of [0, MetadataBit.TIME | MetadataBit.RULE | MetadataBit.CHECKSUM]) {
      burst.metadata = metadata;
      give(0, 1, Path.VF);
      const { value } = await reading.next();
      const { time, rule, checksum, path } = value!;
      seen.push([time[0], rule[0], checksum[0], path[0]]);
    }
    expect(seen).toEqual([
      [0n, 0, 0, Path.VF],
      [0x1234_5678_9abc_def0n, 3, 1, Path.VF],
    ]);
    await reading.return();
  });
});

describe('bursts', () => {
  it('show packets where they are, and give their frames back with the next step', async () => {
    const { memory, deliveries, give, lent } = port();
    give(0, 5);
    give(1, 2);
    const reading = deliveries.bursts();
    const first = (await reading.next()).value!;
    expect([first.queue, first.length]).toEqual([0, 5]);
    expect(Array.from({ length: 5 }, (_, i) => first.view.getUint32(first.offset[i]!))).toEqual([
      0, 1, 2, 3, 4,
    ]);
    expect(first.packet(3).u32(0)).toBe(3);
    expect(first.data(4).buffer).toBe(memory.buffer);
    expect(() => first.packet(5)).toThrow(RangeError);
    expect(lent(0)).toBe(5);
    const second = (await reading.next()).value!;
    expect(second).toBe(first); // the one object
    expect([second.queue, second.length, second.packet(1).u32(0)]).toEqual([1, 2, 6]);
    expect(lent(0)).toBe(0);
    await reading.return();
    expect(lent(1)).toBe(0);
  });

  it('hold at most as many packets as asked for', async () => {
    const { deliveries, give } = port();
    give(0, 20);
    const lengths: number[] = [];
    for await (const { length } of deliveries.bursts({ most: 8 })) {
      lengths.push(length);
      if (lengths.length === 3) break;
    }
    expect(lengths).toEqual([8, 8, 4]);
  });

  it('end after what was delivered when the port closes', async () => {
    const { deliveries, give } = port();
    give(0, 3);
    deliveries.close();
    const lengths: number[] = [];
    for await (const { length } of deliveries.bursts()) lengths.push(length);
    expect(lengths).toEqual([3]);
  });

  it('let timers and sockets have their turn while packets keep coming', async () => {
    const { deliveries, give, ends } = port();
    let turns = 0;
    const count = (): void => {
      turns++;
      immediate = setImmediate(count);
    };
    let immediate = setImmediate(count);
    let bursts = 0;
    give(0, 1);
    for await (const _ of deliveries.bursts()) {
      ends[0]!.sender.collect();
      give(0, 1);
      if (++bursts === 100) break;
    }
    clearImmediate(immediate);
    expect(turns).toBeGreaterThanOrEqual(5);
  });

  it('serve every queue when one always has packets', async () => {
    const { deliveries, give } = port();
    give(0, 20);
    give(1, 1);
    const queues: number[] = [];
    for await (const { queue } of deliveries.bursts({ most: 1 })) {
      queues.push(queue);
      if (queues.length === 4) break;
    }
    expect(queues).toEqual([0, 1, 0, 0]);
  });
});

describe('an application that', () => {
  it('stalls has a quarter of the frames, and the rest are refused', () => {
    const { give, lent } = port();
    expect(give(0, 200)).toBe(FRAMES / 4);
    expect(lent()).toBe(FRAMES / 4);
  });

  it('stalls gets none of a worker that has few left', () => {
    const { give, ends } = port();
    const { pool } = ends[0]!;
    pool.remove(pool.count - FRAMES / 16 - 3);
    expect(give(0, 10)).toBe(2); // the frame of the packet itself is no longer free
  });

  it('stops in the middle leaves the rest to the next reader', async () => {
    const { deliveries, give, lent } = port();
    give(0, 10);
    const got: number[] = [];
    for await (const packet of deliveries.packets()) {
      got.push(...numbers([packet]));
      if (got.length === 4) break;
    }
    expect(lent()).toBe(6);
    for await (const batch of deliveries.batches({ most: 4 })) {
      got.push(...numbers(batch));
      break;
    }
    expect(lent()).toBe(2);
    for await (const burst of deliveries.bursts()) {
      for (let i = 0; i < burst.length; i++) got.push(burst.packet(i).u32(0));
      break;
    }
    expect(got).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(lent()).toBe(0);
  });

  it('is interrupted by a signal while it waits may read again', async () => {
    const { deliveries, give } = port();
    const stop = new AbortController();
    const waiting = deliveries.bursts({ signal: stop.signal }).next();
    await macrotask();
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ name: 'AbortError' });
    give(0, 1);
    const { value } = await deliveries.bursts().next();
    expect(value!.length).toBe(1);
  });

  it('has a reader already is refused another', async () => {
    const { deliveries, give } = port();
    give(0, 1);
    const reading = deliveries.bursts();
    await reading.next();
    await expect(deliveries.packets().next()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
    await reading.return();
    await expect(deliveries.bursts({ most: 0 }).next()).rejects.toMatchObject({ code: 'ERR_OPTION_INVALID' });
  });
});
