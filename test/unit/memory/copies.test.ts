import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RelayReceivers, relaysTo } from '../../../src/datapath/relay.ts';
import type { Shim } from '../../../src/kernel/shim.ts';
import { CopyReceiver, CopySender } from '../../../src/memory/copies.ts';
import { RELAYS } from '../../../src/memory/geometry.ts';
import { Memory } from '../../../src/memory/shared.ts';

const ENTRIES = 32;

function memory(queues = 1, frameSize = 2048): Memory {
  return Memory.create({
    ...{ pageSize: 4096, ports: 3, queues, frameSize, framesPerWorker: 64, ringEntries: 64 },
  });
}

describe('a ring of copies', () => {
  const step = fc.record({
    what: fc.constantFrom('push', 'push', 'take', 'look', 'sender dies', 'receiver dies'),
    count: fc.integer({ min: 1, max: 20 }),
    bytes: fc.constantFrom(0, 14, 60, 1514, 2032),
  });

  it.each([true, false])('agrees with its model when either end dies; one memory: %s', (same) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const to = memory();
        const from = same ? to : memory();
        const at = to.layout.delivery(0, 0);
        let sender = new CopySender(to, at, ENTRIES, from);
        let receiver = new CopyReceiver(to, at, ENTRIES);
        const there: { bytes: number; mark: number }[] = [];
        let mark = 0;
        let made = false;
        for (const { what, count, bytes } of steps) {
          if (what === 'push') {
            for (let i = 0; i < count; i++) {
              const offset = from.layout.frames + 2048 * (mark % 64);
              mark = (mark + 1) & 0x7f;
              from.bytes.fill(mark, offset, offset + bytes);
              const fits = there.length < ENTRIES;
              expect(sender.push(offset, bytes, 2, 3, -mark)).toBe(fits);
              from.bytes.fill(0, offset, offset + bytes); // the copy does not care
              if (fits) there.push({ bytes, mark });
              made ||= fits;
            }
          } else if (what === 'sender dies') {
            sender = new CopySender(to, at, ENTRIES, from);
            made = false;
          } else if (what === 'receiver dies') {
            receiver = new CopyReceiver(to, at, ENTRIES);
          } else {
            const ready = receiver.ready(count);
            expect(ready).toBe(Math.min(count, there.length));
            for (let i = 0; i < ready; i++) {
              const { bytes: length, mark: wanted } = there[i]!;
              expect([receiver.bytes(i), receiver.port(i), receiver.path(i), receiver.hash(i)]).toEqual([
                length,
                2,
                3,
                -wanted,
              ]);
              const copy = to.bytes.subarray(receiver.offset(i), receiver.offset(i) + length);
              expect(copy.every((byte) => byte === wanted)).toBe(true);
            }
            if (what === 'take') {
              receiver.release(ready);
              there.splice(0, ready);
            }
            expect(sender.madeAny()).toBe(made);
            made = false;
          }
        }
      }),
      { numRuns: 80 },
    );
  });

  it('takes what a slot holds, and nothing longer', () => {
    const to = memory();
    const sender = new CopySender(to, to.layout.delivery(0, 0), ENTRIES, to);
    expect(sender.maxPacketBytes).toBe(2032);
    expect(sender.push(to.layout.frames, 2033, 0, 1, 0)).toBe(false);
    expect(sender.push(to.layout.frames, 2032, 0, 1, 0)).toBe(true);
  });
});

describe('relays', () => {
  const shim = { write: () => 8 } as unknown as Shim;
  const route = (to: Memory, port = 0, from = 1) => ({ shared: to.shared, port, from });
  /** What a memory's worker `queue` gets: the numbers of the ports, and each packet's first byte. */
  function heard(to: Memory, queue = 0): { poll: () => [number, number][] } {
    const got: [number, number][] = [];
    const ports = [0, 1, 2].map((port) => ({
      acceptCopy: (at: number) => void got.push([port, to.bytes[at]!]),
    }));
    const receivers = new RelayReceivers(to, queue, ports);
    return {
      poll() {
        receivers.poll();
        return got.splice(0);
      },
    };
  }
  function send(from: Memory, relay: ReturnType<typeof relaysTo>[number], mark: number): void {
    from.bytes[from.layout.frames] = mark;
    expect(relay.sender.push(from.layout.frames, 60, relay.port, 0, 0)).toBe(true);
    relay.flush();
  }

  it('to several ports of one memory are one: nothing is overwritten, and order is kept', () => {
    const [from, to, other] = [memory(), memory(), memory()];
    const relays = relaysTo(shim, from, 0, [route(to, 2), route(other, 1), route(to, 0)]);
    const [there, elsewhere] = [heard(to), heard(other)];
    send(from, relays[0]!, 10);
    send(from, relays[2]!, 11);
    send(from, relays[1]!, 12);
    send(from, relays[0]!, 13);
    expect(there.poll()).toEqual([
      [2, 10],
      [0, 11],
      [2, 13],
    ]);
    expect(elsewhere.poll()).toEqual([[1, 12]]);
  });

  it('serve many workers of a memory with few, and of several memories', () => {
    const to = memory(2);
    const receivers = [0, 1].map((queue) => heard(to, queue));
    const marks: number[] = [];
    for (let queue = 0; queue < 2 * RELAYS; queue++) {
      const from = memory(64);
      const [relay] = relaysTo(shim, from, queue, [route(to, 1, queue & 1)]);
      expect(relay!.open).toBe(true);
      send(from, relay!, queue);
      marks.push(queue);
    }
    const got = receivers.flatMap(({ poll }) => poll());
    expect(got.map(([, mark]) => mark).sort((a, b) => a - b)).toEqual(marks);
    // Then there is none left, until one is given up.
    expect(relaysTo(shim, memory(), 63, [route(to)])[0]!.open).toBe(false);
  });

  it('are found again by the worker that replaces a dead one, and free when given up', () => {
    const [from, to] = [memory(2), memory()];
    const first = relaysTo(shim, from, 0, [route(to)])[0]!;
    const second = relaysTo(shim, from, 1, [route(to)])[0]!;
    first.close();
    // Its own, although an earlier one is free now: what waits there keeps its place.
    const there = heard(to);
    send(from, second, 1);
    const again = relaysTo(shim, from, 1, [route(to)])[0]!;
    send(from, again, 2);
    expect(there.poll()).toEqual([
      [0, 1],
      [0, 2],
    ]);
    again.close();
    for (let queue = 0; queue < RELAYS; queue++) {
      expect(relaysTo(shim, from, queue, [route(to, 0, 7)])[0]!.open).toBe(true);
    }
  });

  it('end with the memory that they lead to', () => {
    const [from, to] = [memory(), memory()];
    const relay = relaysTo(shim, from, 0, [route(to)])[0]!;
    expect(relay.open).toBe(true);
    Atomics.store(to.words, to.control.at('stop'), 1);
    expect(relay.open).toBe(false);
  });
});
