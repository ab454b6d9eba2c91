/** A capture that ends while its client does not read: what waits, and when its place is free. */
import { setImmediate as soon } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { RecordSender } from '../../../src/capture/records.ts';
import { type CaptureOutput, Captures } from '../../../src/control/captures.ts';
import { CaptureOrders, endCaptureOrders } from '../../../src/memory/capture-orders.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { blocksOf } from '../../support/pcapng.ts';

const geometry = {
  pageSize: 4096,
  ports: 1,
  queues: 2,
  frameSize: 2048,
  framesPerWorker: 64,
  ringEntries: 64,
};
const SETTINGS = { port: 0, device: 'eth1', application: 'Twinpath test' };

/** A client that reads one write at a time, when it is told to. */
class Client implements CaptureOutput {
  readonly chunks: Uint8Array[] = [];
  #read: () => void = () => {};

  write(bytes: Uint8Array): boolean {
    this.chunks.push(bytes);
    return false;
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#read = resolve;
    });
  }

  async read(): Promise<void> {
    this.#read();
    await soon();
  }
}

const ordersOf = (memory: Memory): (number | undefined)[] =>
  new CaptureOrders(memory).read()!.map((order) => order?.id);

/** Puts as many records into the ring of queue 0 as it has room for. */
function fill(memory: Memory, id: number): number {
  const sender = new RecordSender(memory, 0, 0);
  let count = 0;
  while (sender.push(id, memory.layout.frames, 2000, 2000, 0, 0) >= 0) count++;
  sender.commit();
  return count;
}

describe('a capture', () => {
  it('gives its client the rest as it reads, and then its place to another', async () => {
    const memory = Memory.create(geometry);
    const captures = new Captures(memory);
    const client = new Client();
    const capture = captures.start(SETTINGS, client);
    const other = captures.start(SETTINGS, new Client());
    const whole = capture.run();
    const records = fill(memory, 1);
    capture.end();
    expect(ordersOf(memory)).toEqual([undefined, 2]);
    await soon();
    expect(client.chunks).toHaveLength(1); // its head: the ring waits where it is
    expect(() => captures.start(SETTINGS, new Client())).toThrow(
      expect.objectContaining({ code: 'ERR_CAPTURE' }),
    );
    let reads = 0;
    for (let over = false; !over; reads++) {
      await client.read();
      expect(client.chunks.length).toBeLessThanOrEqual(reads + 3);
      over = blocksOf(Buffer.from(client.chunks.at(-1)!)).some(({ type }) => type === 5);
    }
    await whole;
    const blocks = blocksOf(Buffer.concat(client.chunks));
    expect(blocks.filter(({ type }) => type === 6)).toHaveLength(records);
    captures.start(SETTINGS, new Client());
    expect(ordersOf(memory)).toEqual([3, 2]);
    other.abandon();
    expect(ordersOf(memory)).toEqual([3, undefined]);
    endCaptureOrders(memory);
    expect(ordersOf(memory)).toEqual([undefined, undefined]);
  });

  it('whose client leaves gives up its place at once, and writes no more', async () => {
    const memory = Memory.create(geometry);
    const captures = new Captures(memory);
    for (const ends of [false, true]) {
      const client = new Client();
      const capture = captures.start(SETTINGS, client);
      const whole = capture.run();
      if (ends) capture.end();
      capture.abandon();
      expect(ordersOf(memory)).toEqual([undefined, undefined]);
      await client.read();
      await whole;
      expect(client.chunks).toHaveLength(1);
    }
    for (const _ of [1, 2]) captures.start(SETTINGS, new Client());
  });

  it('that fails ends its order, and says why', async () => {
    const memory = Memory.create(geometry);
    const captures = new Captures(memory);
    const drained = (): Promise<void> => Promise.reject(new Error('as asked'));
    const capture = captures.start(SETTINGS, { write: () => false, drained });
    await expect(capture.run()).rejects.toThrow('as asked');
    expect(ordersOf(memory)).toEqual([undefined, undefined]);
  });
});
