/**
 * What it costs to cut large segments into frames and to merge frames into large segments; no kernel in it.
 *
 *     node dist/perf/offload.js [--payload 1448] [--rounds 20000] [--json]
 *
 * Cuts a TCP segment of nearly 64 KiB over and over, and merges the frames it was cut into, 64 at a time: all of
 * one flow, of eight flows in turn, and UDP datagrams that pass alone. Prints nanoseconds per frame, the best of
 * five runs. The frames stay in the cache: what memory costs is not in the figures.
 */
import { parseArgs } from 'node:util';
import { offloadWord, Segmentation } from '../src/memory/offload.ts';
import { Memory } from '../src/memory/shared.ts';
import { Coalescer } from '../src/offload/coalesce.ts';
import { Segmenter } from '../src/offload/segment.ts';
import { sum } from '../src/offload/sum.ts';
import { machine } from './measure.ts';

const { values } = parseArgs({
  options: {
    payload: { type: 'string', default: '1448' },
    rounds: { type: 'string', default: '20000' },
    json: { type: 'boolean', default: false },
  },
});
const payload = Number(values.payload);
const rounds = Number(values.rounds);

const FRAME = 2048;
const ROOM = FRAME - 256;
const BURST = 64;
const HEADERS = 14 + 20 + 32; // TCP with timestamps
const memory = Memory.create({
  pageSize: 4096,
  ports: 1,
  queues: 1,
  frameSize: FRAME,
  framesPerWorker: 256,
  ringEntries: 64,
});
const { view } = memory;
const large = memory.layout.frames + 256;
const frames = memory.layout.frames + 64 * FRAME;
const target = (i: number): number => frames + i * FRAME + 256;

/** The headers of a packet at `at`, to go with `count` bytes of payload. */
function lay(at: number, count: number, protocol: number, port: number): void {
  view.setUint16(at + 12, 0x0800);
  view.setUint32(at + 14, (0x4500 << 16) | (HEADERS - 14 + count));
  view.setUint32(at + 18, 0x4000);
  view.setUint32(at + 22, (64 << 24) | (protocol << 16));
  view.setUint32(at + 26, 0x0a4d0001);
  view.setUint32(at + 30, 0x0a4d0002);
  view.setUint16(at + 34, port);
  view.setUint32(at + 38, 1000);
  view.setUint16(at + 46, 0x8010);
}

/** Nanoseconds of one of `count` things that `work` does. */
function nanos(count: number, work: () => void): number {
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 6; run++) {
    const began = process.hrtime.bigint();
    for (let i = 0; i < rounds; i++) work();
    best = Math.min(best, Number(process.hrtime.bigint() - began) / (rounds * count));
  }
  return Math.round(best);
}

const pieces = Math.min(BURST, Math.floor((65_535 - HEADERS + 14) / payload));
const bytes = HEADERS + pieces * payload;
for (let i = 0; i < bytes; i++) memory.bytes[large + i] = i * 7;
lay(large, pieces * payload, 6, 1);
const offload = offloadWord(payload, Segmentation.TCP_V4, true);
const segmenter = new Segmenter(memory);
const coalescer = new Coalescer(memory, BURST);

/** Fills the burst with trains of `flows` flows in turn; a merged head is laid anew in each round. */
function trains(flows: number): void {
  for (let i = 0; i < BURST; i++) {
    lay(large, pieces * payload, 6, i % flows);
    segmenter.begin(large, bytes, offload, ROOM);
    segmenter.write(Math.floor(i / flows) % pieces, target(i));
  }
}

/** Nanoseconds per packet merged, and how many chains came of the burst. */
function merging(flows: number): { nanosPerPacket: number; chains: number } {
  trains(flows);
  const heads = new Uint8Array(BURST * HEADERS);
  for (let i = 0; i < BURST; i++) {
    heads.set(memory.bytes.subarray(target(i), target(i) + HEADERS), i * HEADERS);
  }
  let chains = 0;
  const merge = (): void => {
    for (let i = 0; i < BURST; i++) coalescer.add(target(i), HEADERS + payload, 0);
    chains = coalescer.close();
    // The heads were edited: lengths, flags and checksums as they were.
    for (let c = 0; c < chains; c++) {
      const head = coalescer.entryOffset[coalescer.first[c]!]! + 10;
      const i = (head - target(0)) / FRAME;
      view.setUint16(head + 16, (heads[i * HEADERS + 16]! << 8) | heads[i * HEADERS + 17]!);
      view.setUint16(head + 24, (heads[i * HEADERS + 24]! << 8) | heads[i * HEADERS + 25]!);
      view.setUint16(head + 50, (heads[i * HEADERS + 50]! << 8) | heads[i * HEADERS + 51]!);
    }
  };
  return { nanosPerPacket: nanos(BURST, merge), chains };
}

const result = {
  machine: machine(),
  payload,
  sumNanos: nanos(1, () => void sum(view, large + HEADERS, payload)),
  copyNanos: nanos(1, () => void memory.bytes.copyWithin(target(0), large, large + payload)),
  cutNanosPerFrame: nanos(pieces, () => {
    segmenter.begin(large, bytes, offload, ROOM);
    for (let i = 0; i < pieces; i++) segmenter.write(i, target(i));
  }),
  oneFlow: merging(1),
  eightFlows: merging(8),
  alone: (() => {
    for (let i = 0; i < BURST; i++) lay(target(i), payload, 17, i);
    return nanos(BURST, () => {
      for (let i = 0; i < BURST; i++) coalescer.add(target(i), HEADERS + payload, 0);
      coalescer.close();
    });
  })(),
};
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`);
