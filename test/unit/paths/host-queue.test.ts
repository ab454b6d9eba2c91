/** Writing to the machine's own stack: what becomes of packets when the kernel refuses some of what it is given. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Errno } from '../../../src/errors.ts';
import { loadShim } from '../../../src/kernel/shim.ts';
import { pathCounters, readCounters } from '../../../src/memory/counters.ts';
import { FramePool } from '../../../src/memory/frames.ts';
import { HEADROOM, Path } from '../../../src/memory/layout.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { HostQueue } from '../../../src/paths/host/queue.ts';
import { ACK, frameOf, noise, PSH, type Segment, segment } from '../../support/segments.ts';

const ADDRESS = { port: 0, queue: 0, path: Path.HOST };
const HEADER_BYTES = 10;
const SIZE = 100;

/** What a kernel was given in each write, the virtio header first. */
interface Given {
  readonly taken: number[][];
  /** Those whose errno was the answer: one that ends a burst is asked again. */
  readonly refused: number[][];
}

/** A queue over a kernel that answers a write with what `answer` says of it: 0, or an errno. */
function rig(answer: (packet: readonly number[]) => number) {
  const memory = Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: 256, ringEntries: 64 },
  });
  memory.slot({ port: 0, queue: 0, path: Path.HOST }).fd = 99;
  const given: Given = { taken: [], refused: [] };
  /** As in native/shim.c: in order, up to the first refusal. */
  const write = (spans: Int32Array, counts: (i: number) => number, packets: number): number => {
    let span = 0;
    for (let done = 0; done < packets; done++) {
      const whole: number[] = [];
      for (let i = 0; i < counts(done); i++, span++) {
        const at = spans[2 * span]!;
        whole.push(...memory.bytes.subarray(at, at + spans[2 * span + 1]!));
      }
      const result = answer(whole);
      if (result < 0) {
        if (done === 0) given.refused.push(whole);
        return done > 0 ? done : result;
      }
      given.taken.push(whole);
    }
    return packets;
  };
  const shim = {
    ...loadShim(),
    writeChains: (
      _fd: number,
      _base: unknown,
      _room: number,
      spans: unknown,
      counts: unknown,
      chains: number,
    ) => write(spans as Int32Array, (i) => (counts as Int32Array)[i]!, chains),
    writeBurst: (_fd: number, _base: unknown, _room: number, spans: unknown, count: number) =>
      write(spans as Int32Array, () => 1, count),
  };
  const pool = new FramePool(memory, 0);
  const queue = new HostQueue(shim, memory, pool, ADDRESS);
  pool.owners.recover([queue]);
  const free = pool.count;
  const pass = (packets: readonly (readonly number[])[]): void => {
    for (const packet of packets) {
      const at = memory.layout.frames + pool.peek(0) + HEADROOM;
      memory.bytes.set(packet, at);
      pool.remove(1);
      queue.tx.push(at, packet.length);
    }
    queue.tx.flush();
    expect(pool.count).toBe(free);
    expect(pool.owners.duplicates([queue])).toBe(0);
  };
  const counts = () => readCounters(memory, pathCounters(memory, 0, 0, Path.HOST));
  return { ...given, pass, counts };
}

const isLarge = (packet: readonly number[]): boolean => packet[1] !== 0;
const alone = (packet: readonly number[]): number[] => [...Array(HEADER_BYTES).fill(0), ...packet];

/** Segments of one flow, `count` of them full ones. */
function train(from: number, count: number, fields: Partial<Segment> = {}): number[][] {
  return Array.from({ length: count }, (_, i) => {
    const payload = noise(i === count - 1 ? SIZE / 2 : SIZE, from + i);
    const flags = i === count - 1 ? ACK | PSH : ACK;
    return frameOf(segment({ from, seq: 1000 + i * SIZE, id: i, flags, payload, ...fields }));
  });
}

describe('a kernel that refuses', () => {
  it.each([Errno.EINVAL, Errno.ENOMEM, Errno.ENOBUFS])(
    'every large segment (%i) gets each packet of it instead, as it came',
    (errno) => {
      const { taken, refused, pass, counts } = rig((packet) => (isLarge(packet) ? errno : 0));
      const packets = [...train(1, 5), ...train(2, 1), ...train(3, 4, { version: 6 }), ...train(4, 64)];
      pass(packets);
      expect(taken).toEqual(packets.map(alone));
      expect(refused.filter(isLarge)).toEqual(refused);
      const { txPosted, txPackets, txErrors, txSegmentsRefused, txChains } = counts();
      expect([txPosted, txPackets, txErrors, txSegmentsRefused, txChains]).toEqual([74, 74, 0, 3, 74]);
    },
  );

  it('large segments with a short tail, as some do, loses none of them', () => {
    const { taken, pass, counts } = rig((packet) => {
      const size = packet[4]! + 256 * packet[5]!;
      return isLarge(packet) && (packet.length - HEADER_BYTES - 54) % size !== 0 ? Errno.EINVAL : 0;
    });
    const full = train(1, 4).slice(0, 3);
    const short = train(2, 4);
    pass([...full, ...short]);
    expect(taken.slice(1)).toEqual(short.map(alone));
    expect(isLarge(taken[0]!)).toBe(true);
    expect(counts()).toMatchObject({ txPackets: 7, txErrors: 0, txSegmentsRefused: 1, txChains: 5 });
  });

  it('anything at all loses exactly what it refuses of single packets, and counts it', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 6 }),
        fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 20 }),
        fc.nat(9),
        (lengths, dice, most) => {
          let throws = 0;
          const { taken, refused, pass, counts } = rig(() =>
            dice[throws++ % dice.length]! < most ? Errno.EINVAL : 0,
          );
          const packets = lengths.flatMap((count, flow) => train(flow, count));
          pass(packets);
          const lost = refused.filter((packet) => !isLarge(packet));
          const { txPosted, txPackets, txErrors } = counts();
          expect([txPosted, txPackets + txErrors]).toEqual([packets.length, packets.length]);
          expect(txErrors).toBe(lost.length);
          // Of every payload there is as much as was not refused.
          const payloads = (all: readonly (readonly number[])[], behind: number): number =>
            all.reduce((sum, packet) => sum + packet.length - behind, 0);
          expect(payloads(taken, 64)).toBe(payloads(packets, 54) - payloads(lost, 64));
          for (const packet of lost) expect(packets.map(alone)).toContainEqual(packet);
        },
      ),
      { numRuns: 60 },
    );
  });
});
