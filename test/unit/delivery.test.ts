import { describe, expect, it } from 'vitest';
import { Deliveries } from '../../src/delivery.ts';
import { CopySender } from '../../src/memory/copies.ts';
import { Memory } from '../../src/memory/shared.ts';

function port() {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 2, frameSize: 2048, framesPerWorker: 64, ringEntries: 64 },
  });
  const { layout } = memory;
  const senders = [0, 1].map(
    (queue) => new CopySender(memory, layout.delivery(0, queue), layout.deliveryEntries, memory),
  );
  return { memory, deliveries: new Deliveries(memory, 0), senders, frame: layout.frames };
}

describe('a delivered packet', () => {
  it.each([0, 1])('of queue %i is read without a doorbell', async (queue) => {
    const { memory, deliveries, senders, frame } = port();
    memory.bytes.fill(0x5a, frame, frame + 60);
    const batches = deliveries.batches();
    const first = batches.next(); // waits for the bell
    await new Promise(setImmediate);
    expect(senders[queue]!.push(frame, 60, 0, 1, 7)).toBe(true);
    const { value } = await first;
    expect(value).toMatchObject([{ queue, hash: 7, data: Buffer.alloc(60, 0x5a) }]);
    await batches.return();
  });
});
