/** The loops in WebAssembly do what their slow twin does, to every byte of the memory. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BURST, Path, Ring } from '../../../src/memory/layout.ts';
import { WORKER_RING } from '../../../src/memory/ring.ts';
import { type RingOperations, ringOperationsOf } from '../../../src/memory/ring-operations.ts';
import { Memory } from '../../../src/memory/shared.ts';
import { BurstArray } from '../../../src/memory/wasm-abi.ts';
import { ringOperationsTwin } from '../../models/ring-operations-twin.ts';

const FRAMES = 128;
const FRAME_SHIFT = 11;
const MAX_LENGTH = 1792;

function memory(): Memory {
  return Memory.create({
    ...{ pageSize: 4096, ports: 1, queues: 1, frameSize: 2048, framesPerWorker: FRAMES, ringEntries: 64 },
  });
}

/** One pair for all runs: what one run leaves behind is what the next one finds. */
const [ours, theirs] = [memory(), memory()];
const both = [ours, theirs];
const { layout } = ours;
const burst = layout.burst(0);
const slots = layout.ring(0, 0, Path.VF, Ring.TX) + WORKER_RING.entries;
const stagedAt = ours.slot({ port: 0, queue: 0, path: Path.VF }).offset('staged');
const ringOps: [RingOperations, RingOperations] = [ringOperationsOf(ours), ringOperationsTwin(theirs)];

const cursor = fc.oneof(
  fc.integer(),
  fc.integer({ min: 2 ** 31 - 70, max: 2 ** 31 - 1 }),
  fc.integer({ min: -70, max: 70 }),
);
const entries = fc.constantFrom(1, 2, 4, 8, 16, 32, 64);
const length = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 14, max: MAX_LENGTH }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 13, 14, MAX_LENGTH, MAX_LENGTH + 1, 2048, -1) },
);
const verdict = fc.oneof({ weight: 20, arbitrary: fc.constant(1) }, fc.integer({ min: 0, max: 255 }));

/** What lies before the frames: everything that a kernel may write to. */
function same(): void {
  const head = both.map(({ bytes }) => Buffer.from(bytes.buffer, 65_536, layout.frames - 65_536));
  expect(head[0]!.equals(head[1]!)).toBe(true);
}

it('begin sets port, path and no verdict for every packet, and clears the offload unless it is to be kept', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 20 * BURST, maxLength: 20 * BURST }),
      fc.nat(15),
      fc.integer({ min: 1, max: 3 }),
      fc.boolean(),
      (before, port, path, keep) => {
        for (const { bytes } of both) bytes.set(before, burst);
        for (const one of ringOps) one.begin(burst, port, path, keep);
        same();
      },
    ),
    { numRuns: 50 },
  );
});

it('receive reads offsets and lengths at the cursor, across the end of the ring, and sums the lengths', () => {
  const packet = fc.tuple(fc.nat(FRAMES * 2048), fc.nat(2048));
  fc.assert(
    fc.property(
      fc.array(packet, { minLength: 64, maxLength: 64 }),
      entries,
      cursor,
      fc.nat(BURST),
      (packets, entries, cursor, wanted) => {
        for (const { words } of both) {
          packets.forEach(([address, length], i) => {
            words.set([address, 0, length, 0], (slots >> 2) + 4 * i);
          });
        }
        const count = Math.min(wanted, entries);
        const sums = ringOps.map((one) =>
          one.receive(burst, slots, entries - 1, cursor, count, layout.frames),
        );
        expect(sums[0]).toBe(sums[1]);
        same();
      },
    ),
    { numRuns: 500 },
  );
});

it('stage writes slots, owners and the cursor up to the first packet whose verdict is not TX', () => {
  const packet = fc.tuple(fc.nat(FRAMES - 1), fc.nat(2047), length, verdict);
  fc.assert(
    fc.property(
      fc.array(packet, { minLength: BURST, maxLength: BURST }),
      entries,
      cursor,
      fc.nat(BURST - 1),
      fc.nat(BURST),
      fc.nat(0xffff),
      (packets, entries, cursor, from, room, owner) => {
        for (const { words, bytes } of both) {
          packets.forEach(([frame, at, length, verdict], i) => {
            words[((burst + BurstArray.offset) >> 2) + i] = layout.frames + frame * 2048 + at;
            words[((burst + BurstArray.bytes) >> 2) + i] = length;
            bytes[burst + BurstArray.verdict + i] = verdict;
          });
        }
        const to = Math.min(from + Math.min(room, entries), BURST);
        const [staged, expected] = ringOps.map((one) =>
          one.stage(
            ...([burst, from, to, MAX_LENGTH, slots, entries - 1, cursor, stagedAt] as const),
            ...([layout.frames, layout.owners, FRAME_SHIFT, owner] as const),
          ),
        );
        expect(staged).toBe(expected);
        same();
      },
    ),
    { numRuns: 1000 },
  );
});

it('setOwners writes the owner of every frame in the slots', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(FRAMES * 2048 - 1), { minLength: 64, maxLength: 64 }),
      entries,
      cursor,
      fc.nat(64),
      fc.nat(0xffff),
      (addresses, entries, cursor, wanted, owner) => {
        for (const { words } of both) {
          addresses.forEach((address, i) => {
            words[(slots >> 2) + 4 * i] = address;
          });
        }
        for (const one of ringOps) {
          const count = Math.min(wanted, entries);
          one.setOwners(slots, entries - 1, cursor, count, stagedAt, layout.owners, FRAME_SHIFT, owner);
        }
        same();
      },
    ),
    { numRuns: 500 },
  );
});

it('sum folds the checksum of any bytes at any alignment', () => {
  const at = layout.frames;
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(20), (data, shift) => {
      for (const { bytes } of both) bytes.fill(0xee, at, at + 400).set(data, at + shift);
      const [fast, slow] = ringOps.map((one) => one.sum(at + shift, data.length));
      expect(fast).toBe(slow);
    }),
    { numRuns: 1000 },
  );
  for (const fill of [0, 1, 0xff]) {
    for (const count of [0, 1, 65_535, 131_072]) {
      for (const { bytes } of both) bytes.fill(fill, at, at + count);
      const [fast, slow] = ringOps.map((one) => one.sum(at, count));
      expect([fill, count, fast]).toEqual([fill, count, slow]);
      expect(fast === 0).toBe(fill === 0 || count === 0);
    }
  }
});
