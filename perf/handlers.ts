/**
 * What a handler itself costs, in TypeScript and in WebAssembly: nanoseconds a packet over bursts of 64, in a plain
 * loop on this thread; no port, no rings, no other thread.
 *
 *     node dist/perf/handlers.js [--handler reflect|echo] [--bursts 200000] [--runs 9] [--json]
 *
 * Every burst is the same 64 pings, one in each frame as a port lays them. What `reflect` does to them it undoes in
 * the next burst; for other handlers they are written anew each time. What the loop costs without a handler is in every
 * figure, and alone in `loop`. The kinds take turns; the median and the extremes of the runs are printed.
 */
import { parseArgs } from 'node:util';
import { Burst } from '../src/datapath/burst.ts';
import type { Handler } from '../src/datapath/handler.ts';
import { loadHandler } from '../src/datapath/load-handler.ts';
import { TX } from '../src/datapath/verdict.ts';
import { BURST, HEADROOM } from '../src/memory/layout.ts';
import { Memory } from '../src/memory/shared.ts';
import { machine } from './measure.ts';

const { values } = parseArgs({
  options: {
    handler: { type: 'string', default: 'reflect' },
    bursts: { type: 'string', default: '200000' },
    runs: { type: 'string', default: '9' },
    json: { type: 'boolean', default: false },
  },
});

const FRAME_SIZE = 2048;
const MAC = '02:00:00:00:00:02';
/** A ping from 10.77.0.1 to 10.77.0.2, 64 bytes with its Ethernet header. */
const PING = new Int32Array(
  Uint8Array.from(
    Buffer.from(
      '0200000000020200000000990800' +
        '4500003212344000110142fb0a4d00010a4d0002' +
        '0800ddb7abcd0001000102030405060708090a0b0c0d0e0f101112131415',
      'hex',
    ),
  ).buffer,
);

const anew = values.handler !== 'reflect';

interface Loop {
  readonly burst: Burst;
  readonly words: Int32Array;
  readonly handle: Handler;
}

async function prepare(file: string | undefined): Promise<Loop> {
  const memory = Memory.create({
    pageSize: 4096,
    ports: 1,
    queues: 1,
    frameSize: FRAME_SIZE,
    framesPerWorker: BURST,
    ringEntries: 64,
  });
  const burst = new Burst(memory, 0);
  for (let i = 0; i < BURST; i++) {
    burst.offset[i] = memory.layout.frames + i * FRAME_SIZE + HEADROOM;
    burst.bytes[i] = PING.byteLength;
  }
  const { words } = memory;
  write(burst, words);
  if (file === undefined) return { burst, words, handle: () => {} };
  const options = values.handler === 'echo' ? { address: '10.77.0.2' } : {};
  const where = { queue: 0, queues: 1, macs: [MAC], memory };
  const { handle } = await loadHandler(new URL(file, import.meta.url).href, options, where);
  return { burst, words, handle };
}

function write(burst: Burst, words: Int32Array): void {
  for (let i = 0; i < BURST; i++) {
    const at = burst.offset[i]! >> 2;
    for (let k = 0; k < PING.length; k++) words[at + k] = PING[k]!;
  }
}

/** Nanoseconds a packet. */
function measure({ burst, words, handle }: Loop, bursts: number): number {
  const began = process.hrtime.bigint();
  for (let n = 0; n < bursts; n++) {
    if (anew) write(burst, words);
    burst.begin(BURST);
    handle(burst);
  }
  const nanos = Number(process.hrtime.bigint() - began);
  return nanos / (bursts * BURST);
}

const bursts = Number(values.bursts);
const kinds: Record<string, Loop> = {
  loop: await prepare(undefined),
  typescript: await prepare(`../src/handlers/${values.handler}.js`),
  wasm: await prepare(`../src/handlers/${values.handler}.wasm`),
};
const found = Object.fromEntries(Object.keys(kinds).map((kind) => [kind, [] as number[]]));
for (let run = 0; run <= Number(values.runs); run++) {
  for (const [kind, loop] of Object.entries(kinds)) {
    const nanos = measure(loop, bursts);
    if (run > 0) found[kind]!.push(nanos); // in the first V8 compiles
  }
}
for (const kind of ['typescript', 'wasm']) {
  const sent = kinds[kind]!.burst.verdict.filter((verdict) => verdict === TX).length;
  if (sent !== BURST) throw new Error(`${values.handler} in ${kind} sent ${sent} of ${BURST} packets`);
}
const tenths = (nanos: number): number => Math.round(nanos * 10) / 10;
const result = {
  machine: machine(),
  handler: values.handler,
  nanosPerPacket: Object.fromEntries(
    Object.entries(found).map(([kind, runs]) => {
      const sorted = runs.toSorted((a, b) => a - b);
      const median = sorted[sorted.length >> 1]!;
      return [kind, { median: tenths(median), least: tenths(sorted[0]!), most: tenths(sorted.at(-1)!) }];
    }),
  ),
};
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`);
