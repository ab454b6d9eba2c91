/** The files of a capture: their limits and names, and the blocks that they are cut at. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished, test } from 'vitest';
import { type Block, BlockReader, missedIn } from '../../../src/cli/capture/blocks.ts';
import { extcap } from '../../../src/cli/capture/extcap.ts';
import { limitsOf, numbered } from '../../../src/cli/capture/limits.ts';
import { FileOutput } from '../../../src/cli/capture/output.ts';
import {
  enhancedPacket,
  interfaceDescription,
  interfaceStatistics,
  sectionHeader,
} from '../../../src/pcapng/write.ts';
import { blocksOf } from '../../support/pcapng.ts';

const packet = (bytes: number): Uint8Array =>
  enhancedPacket({ interface: 0, nanos: 1n, data: new Uint8Array(bytes) });

/** One that never comes. */
const SIGNAL = new AbortController().signal;

describe('the stream of a capture', () => {
  it('gives the same blocks however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(300), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 200 })),
        (sizes, cuts) => {
          const file = Buffer.concat([sectionHeader(), interfaceDescription(), ...sizes.map(packet)]);
          const reader = new BlockReader();
          const blocks: Block[] = [];
          let from = 0;
          for (const cut of [...cuts, file.length]) {
            blocks.push(...reader.push(file.subarray(from, from + cut)));
            from += cut;
          }
          expect(Buffer.concat(blocks.map(({ bytes }) => bytes))).toEqual(file);
          expect(blocks.map(({ type }) => type)).toEqual(blocksOf(file).map(({ type }) => type));
        },
      ),
    );
  });

  it('is refused if it is not pcapng', () => {
    expect(() => new BlockReader().push(Buffer.from('{"error":"this is no block"}'))).toThrow(RangeError);
  });

  it('says how many packets are missing', () => {
    const block = interfaceStatistics({
      interface: 1,
      nanos: 1n,
      received: 9n,
      accepted: 8n,
      dropped: 5n,
      delivered: 3n,
    });
    expect(missedIn(Buffer.from(block))).toBe(5);
    expect(missedIn(Buffer.from(interfaceStatistics({ interface: 1, nanos: 1n })))).toBe(0);
  });
});

describe('the limits of a file', () => {
  it('are as dumpcap writes them', () => {
    expect(limitsOf('--ring', ['duration:60', 'filesize:1000', 'files:5', 'packets:7'])).toEqual({
      ...{ duration: 60, filesize: 1000, files: 5, packets: 7 },
    });
    for (const wrong of ['filesize', 'filesize:0', 'size:3', 'filesize:1:2', 'filesize:-1'])
      expect(() => limitsOf('--ring', [wrong]), wrong).toThrow('--ring');
    expect(() => limitsOf('--ring', ['files:1', 'files:2'])).toThrow('twice');
  });

  it('give each file a number and a time before its ending', () => {
    const date = new Date(2026, 0, 31, 12, 5, 9);
    expect(numbered('/a.b/trace.pcapng', 3, date)).toBe('/a.b/trace_00003_20260131120509.pcapng');
    expect(numbered('/a.b/trace', 12, date)).toBe('/a.b/trace_00012_20260131120509');
    expect(numbered('.hidden', 1, date)).toBe('.hidden_00001_20260131120509');
  });

  it('cut a stream of packets into files, each of which is whole', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tp-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const head = Buffer.concat([sectionHeader(), interfaceDescription()]);
    let now = 0;
    const output = new FileOutput(join(folder, 'x.pcapng'), SIGNAL, { filesize: 1, duration: 10 }, () => now);
    expect(await output.begin(head)).toBe(true);
    const blocks = new BlockReader().push(Buffer.concat([100, 800, 20, 2000, 50].map(packet)));
    await output.write(blocks);
    now = 10_000;
    await output.write(new BlockReader().push(Buffer.from(packet(4))));
    await output.write(new BlockReader().push(Buffer.from(interfaceStatistics({ interface: 0, nanos: 2n }))));
    await output.close();
    const written = output.files.map((file) => blocksOf(readFileSync(file)));
    expect(written.map((blocks) => blocks.map(({ type }) => type))).toEqual([
      [0x0a0d0d0a, 1, 6],
      [0x0a0d0d0a, 1, 6, 6],
      [0x0a0d0d0a, 1, 6],
      [0x0a0d0d0a, 1, 6],
      [0x0a0d0d0a, 1, 6, 5],
    ]);
    const sizes = written.map((blocks) =>
      blocks.filter(({ type }) => type === 6).map(({ body }) => body.readUInt32LE(12)),
    );
    expect(sizes).toEqual([[100], [800, 20], [2000], [50], [4]]);
  });

  it('that cannot be written is an error with its name', async () => {
    const output = new FileOutput('/dev/full', SIGNAL);
    await expect(output.begin(Buffer.alloc(10))).rejects.toMatchObject({
      ...{ code: 'ERR_OUTPUT', device: '/dev/full', hint: expect.stringContaining('-b filesize') },
    });
    await output.close();
    await expect(new FileOutput('/nowhere/x', SIGNAL).begin(Buffer.alloc(1))).rejects.toMatchObject({
      code: 'ERR_OUTPUT',
    });
  });
});

describe('a named pipe', () => {
  const pipe = (): string => {
    const folder = mkdtempSync(join(tmpdir(), 'tp-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const fifo = join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    return fifo;
  };

  it('without a reader is waited for until the capture is to end', async () => {
    const ending = new AbortController();
    const output = new FileOutput(pipe(), ending.signal);
    const begun = output.begin(Buffer.alloc(10));
    await new Promise(setImmediate);
    ending.abort();
    expect([await begun, output.files]).toEqual([false, []]);
    await output.close();
  });

  it('gets everything at the pace of its reader, who may come late and leave early', async () => {
    const fifo = pipe();
    const output = new FileOutput(fifo, SIGNAL);
    const bytes = Buffer.from(Array.from({ length: 500_000 }, (_, i) => i % 251));
    const begun = output.begin(bytes);
    const reader = await open(fifo);
    const chunks: Buffer[] = [];
    for (let length = 0; length < bytes.length; length += chunks.at(-1)!.length) {
      const { buffer, bytesRead } = await reader.read(Buffer.alloc(30_000));
      chunks.push(buffer.subarray(0, bytesRead));
    }
    await reader.close();
    expect(await begun).toBe(true);
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    expect(await output.write(new BlockReader().push(Buffer.from(packet(4))))).toBe(false);
    await output.close();
  });
});

test('extcap has an option for each that Wireshark calls it with', () => {
  const wanted = ['interfaces', 'version', 'interface', 'dlts', 'config', 'capture-filter', 'reload-option'];
  expect(Object.keys(extcap.table.options)).toEqual([
    ...wanted.map((name) => `extcap-${name}`),
    ...['capture', 'fifo', 'snaplen'],
  ]);
});
