/**
 * What the RSS hash of a packet costs: nanoseconds for each kind of packet, in bursts of 64.
 *
 *     node dist/perf/rss.js [--packets 20000000] [--json]
 *
 * The packets lie in 256 frames, each with a port of its own, and stay in the second-level cache, as if the
 * kernel had just written them. Prints the median of 15 runs, and the fastest.
 */
import { parseArgs } from 'node:util';
import { BURST, HEADROOM } from '../src/memory/layout.ts';
import { DEFAULT_KEY } from '../src/rss/key.ts';
import { retaIndex } from '../src/rss/redirection.ts';
import { RssHash } from '../src/rss/toeplitz.ts';
import { machine } from './measure.ts';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '20000000' },
    json: { type: 'boolean', default: false },
  },
});

const RUNS = 15;
const FRAMES = 256;
const FRAME_SIZE = 2048;
const bursts = Math.ceil(Number(values.packets) / RUNS / BURST);

const view = new DataView(new SharedArrayBuffer(FRAMES * FRAME_SIZE));
const hash = new RssHash(view, DEFAULT_KEY);

/** Fills every frame: the first bytes behind the addresses, and where the last port lies. */
function fill(start: readonly number[], lastPort: number): void {
  for (let frame = 0; frame < FRAMES; frame++) {
    const at = frame * FRAME_SIZE + HEADROOM;
    new Uint8Array(view.buffer, at, 128).fill(0x5a);
    new Uint8Array(view.buffer, at + 12).set(start);
    view.setUint16(at + lastPort, frame);
  }
}

/** Nanoseconds a packet. The sum keeps the hashes from being optimized away. */
function run(bytes: number): number {
  let sum = 0;
  const began = process.hrtime.bigint();
  for (let burst = 0; burst < bursts; burst++) {
    for (let i = 0; i < BURST; i++) {
      const frame = (burst * BURST + i) & (FRAMES - 1);
      sum += retaIndex(hash.of(frame * FRAME_SIZE + HEADROOM, bytes));
    }
  }
  const nanos = Number(process.hrtime.bigint() - began);
  if (Number.isNaN(sum)) throw new Error('the hash is no number');
  return nanos / (bursts * BURST);
}

const KINDS: readonly (readonly [name: string, bytes: number, start: number[], lastPort: number])[] = [
  ['ipv4Tcp', 60, [0x08, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 6], 36],
  ['ipv6Tcp', 80, [0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, 6, 64], 56],
  ['notIp', 60, [0x08, 0x06], 36],
];

// All kinds run first, and take turns: in one process a compiler that has seen only one would be flattered.
for (const [, bytes, start, lastPort] of KINDS) {
  fill(start, lastPort);
  run(bytes);
}
const nanos = new Map(KINDS.map(([name]) => [name, [] as number[]]));
for (let round = 0; round < RUNS; round++) {
  for (const [name, bytes, start, lastPort] of KINDS) {
    fill(start, lastPort);
    nanos.get(name)!.push(run(bytes));
  }
}
const figures = [...nanos].map(([name, all]) => {
  const sorted = all.sort((a, b) => a - b);
  const [median, fastest] = [sorted[RUNS >> 1]!, sorted[0]!].map((value) => Number(value.toFixed(1)));
  return [name, { median, fastest }];
});
const result = {
  machine: machine(),
  packets: bursts * BURST * RUNS,
  nanosPerHash: Object.fromEntries(figures),
};
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`);
