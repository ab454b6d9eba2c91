/** A slow reader, written from the draft's figures, finds in each block what was to be written. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Direction, ETHERNET, XdpAction } from '../../../src/pcapng/format.ts';
import {
  enhancedPacket,
  enhancedPacketBytes,
  interfaceDescription,
  interfaceStatistics,
  type PacketRecord,
  putEnhancedPacket,
  sectionHeader,
} from '../../../src/pcapng/write.ts';
import { blocksOf, readPacket, textOf } from '../../support/pcapng.ts';

describe('a section header', () => {
  it('has the magic number, the version, an unknown length and its options', () => {
    const file = sectionHeader({ hardware: 'x64', os: 'Linux', application: 'Twinpath 1', comment: 'ü' });
    const [block] = blocksOf(file);
    expect(block!.type).toBe(0x0a0d0d0a);
    expect(block!.body.subarray(0, 16).toString('hex')).toBe(`4d3c2b1a01000000${'ff'.repeat(8)}`);
    expect([1, 2, 3, 4].map((code) => textOf(block!, code))).toEqual(['ü', 'x64', 'Linux', 'Twinpath 1']);
  });

  it('has no end mark without options', () => {
    expect(sectionHeader().length).toBe(28);
  });
});

describe('an interface description', () => {
  it('has the name, the filter as text, the resolution of nanoseconds and the snap length', () => {
    const [block] = blocksOf(
      interfaceDescription({ name: 'vf rx', description: 'eth1', filter: 'tcp port 80', snapLength: 96 }),
    );
    expect(block!.type).toBe(1);
    expect([block!.body.readUInt16LE(0), block!.body.readUInt32LE(4)]).toEqual([ETHERNET, 96]);
    expect([textOf(block!, 2), textOf(block!, 3)]).toEqual(['vf rx', 'eth1']);
    expect(block!.options.get(9)).toEqual(Buffer.from([9]));
    expect(textOf(block!, 11)).toBe('\0tcp port 80');
  });

  it('cuts a text that is longer than the format allows, and not inside a character', () => {
    const [block] = blocksOf(interfaceDescription({ filter: 'ü'.repeat(40_000) }));
    const filter = textOf(block!, 11)!;
    expect(filter).toBe(`\0${'ü'.repeat(32_767)}`);
  });
});

const maybe = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(value, { nil: undefined });
const records = fc.record({
  interface: fc.nat(0xffffffff),
  nanos: fc.bigInt(0n, 2n ** 64n - 1n),
  data: fc.uint8Array({ maxLength: 70 }),
  length: maybe(fc.nat(0xffffffff)),
  direction: maybe(fc.constantFrom(...Object.values(Direction))),
  dropCount: maybe(fc.maxSafeNat()),
  queue: maybe(fc.nat(0xffffffff)),
  verdict: maybe(fc.constantFrom(...Object.values(XdpAction))),
});

describe('a packet', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(records, (record) => {
        const [block] = blocksOf(enhancedPacket(record as PacketRecord));
        const { data, length = data.length } = record;
        expect(readPacket(block!)).toEqual({ ...record, data: [...data], length });
      }),
    );
  });

  it('is written into a used buffer without changing what is around it', () => {
    fc.assert(
      fc.property(records, fc.nat(9), fc.nat(9), (record, before, after) => {
        const packet = record as PacketRecord;
        const bytes = enhancedPacketBytes(packet);
        const room = new Uint8Array(3 + before + bytes + after).fill(0xaa);
        const end = putEnhancedPacket(packet, new DataView(room.buffer, 3), before);
        expect(end).toBe(before + bytes);
        expect(room.subarray(3 + before, 3 + end)).toEqual(enhancedPacket(packet));
        room.fill(0xaa, 3 + before, 3 + end);
        expect(room.every((byte) => byte === 0xaa)).toBe(true);
      }),
    );
  });
});

describe('the statistics of an interface', () => {
  it('have times with the high word first, and the counters that were given', () => {
    const nanos = 0x1234_5678_9abc_def0n;
    const [block] = blocksOf(
      interfaceStatistics({ interface: 3, nanos, start: nanos, accepted: 7n, dropped: 2n ** 40n }),
    );
    expect([block!.type, block!.body.readUInt32LE(0)]).toEqual([5, 3]);
    expect(block!.body.subarray(4, 12).toString('hex')).toBe('78563412f0debc9a');
    expect(block!.options.get(2)!.toString('hex')).toBe('78563412f0debc9a');
    expect(block!.options.get(5)!.readBigUInt64LE()).toBe(2n ** 40n);
    expect(block!.options.get(6)!.readBigUInt64LE()).toBe(7n);
    expect([...block!.options.keys()].sort()).toEqual([2, 5, 6]);
  });
});
