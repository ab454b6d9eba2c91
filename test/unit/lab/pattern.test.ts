import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PatternReader, writePattern } from '../../../src/lab/pattern.ts';

/** Byte by byte, in arithmetic that cannot overflow. */
function byteAt(position: bigint): number {
  const word = ((position / 4n) * 0x9e3779b1n) % 2n ** 32n;
  return Number((word >> (8n * (position % 4n))) & 255n);
}

function stream(position: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => byteAt(BigInt(position) + BigInt(i)));
}

/** A reader that has come as far as `position`. */
function readerAt(position: number): PatternReader {
  const reader = new PatternReader();
  reader.position = position;
  return reader;
}

const read = (reader: PatternReader, bytes: Uint8Array): void =>
  reader.read(new DataView(bytes.buffer, bytes.byteOffset), bytes.length);

/** Small positions, and those around which 32 bits of bytes or words run out. */
const positions = fc.oneof(
  fc.nat(1000),
  fc
    .tuple(fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 33, 2 ** 34), fc.nat(64))
    .map(([base, off]) => base - 32 + off),
);

describe('the pattern of a download', () => {
  it('depends only on the position', () => {
    fc.assert(
      fc.property(positions, fc.nat(50), (near, words) => {
        const position = near - (near % 4);
        const written = new Uint8Array(words * 4);
        writePattern(new DataView(written.buffer), position);
        expect(written).toEqual(stream(position, written.length));
      }),
    );
  });

  it('is recognised in pieces of any length', () => {
    fc.assert(
      fc.property(positions, fc.array(fc.nat(30), { maxLength: 20 }), (position, lengths) => {
        const reader = readerAt(position);
        for (const length of lengths) read(reader, stream(reader.position, length));
        expect(reader.wrongAt).toBe(-1);
        expect(reader.position).toBe(lengths.reduce((a, b) => a + b, position));
      }),
    );
  });

  it('reports the first damaged byte, regardless of later bytes', () => {
    const damage = fc.record({ position: positions, before: fc.nat(20), behind: fc.nat(20), at: fc.nat(39) });
    fc.assert(
      fc.property(damage, fc.integer({ min: 1, max: 255 }), ({ position, before, behind, at }, bits) => {
        const bytes = stream(position, before + behind + 1);
        const wrong = at % bytes.length;
        bytes[wrong]! ^= bits;
        const reader = readerAt(position);
        read(reader, bytes.subarray(0, before));
        read(reader, bytes.subarray(before));
        read(reader, bytes);
        expect(reader.wrongAt).toBe(position + wrong);
      }),
    );
  });

  it('shows bytes that are missing or repeated', () => {
    fc.assert(
      fc.property(positions, fc.integer({ min: 1, max: 5000 }), fc.boolean(), (position, slip, twice) => {
        const reader = readerAt(position);
        read(reader, stream(position, 64));
        read(reader, stream(Math.max(0, reader.position + (twice ? -slip : slip)), 64));
        expect(reader.wrongAt).toBeGreaterThanOrEqual(position + 64);
        expect(reader.wrongAt).toBeLessThan(position + 72);
      }),
    );
  });
});
