import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LineReader, MAX_LINE } from '../../../src/control/protocol.ts';

describe('the reader of a control socket', () => {
  it('gives the same lines however the stream is cut', () => {
    const lines = fc.array(
      fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', '')),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(lines, fc.array(fc.nat(40)), (given, cuts) => {
        const stream = Buffer.from(given.map((line) => `${line}\n`).join(''));
        const reader = new LineReader();
        const read: string[] = [];
        let at = 0;
        for (const length of [...cuts, stream.length]) {
          read.push(...reader.push(stream.subarray(at, at + length)));
          at = Math.min(stream.length, at + length);
        }
        expect(read).toEqual(Buffer.from(given.join('\n')).toString().split('\n').slice(0, given.length));
      }),
    );
  });

  it('keeps a line that comes byte by byte in few parts', () => {
    const reader = new LineReader();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 100_000; i++) expect(reader.push(Buffer.from('x'))).toEqual([]);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
    expect(reader.push(Buffer.from('\n'))[0]).toHaveLength(100_000);
  });

  it('refuses a line that is longer than allowed, whole or in pieces, and takes one that is as long', () => {
    const reader = new LineReader();
    expect(reader.push(Buffer.from(`${'x'.repeat(MAX_LINE)}\n`))).toHaveLength(1);
    expect(() => reader.push(Buffer.alloc(MAX_LINE + 1, 'x'))).toThrow(RangeError);
    const pieces = new LineReader();
    expect(() => {
      for (let i = 0; i < 20; i++) pieces.push(Buffer.alloc(MAX_LINE / 16, 'x'));
    }).toThrow(RangeError);
  });
});
