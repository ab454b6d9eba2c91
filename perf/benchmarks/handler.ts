/**
 * The cost of a handler itself (`handler`), and the garbage that millions of packets through the whole port leave in a worker's
 * heap (`garbage`).
 *
 * `handler`: nanoseconds a packet in a plain loop over bursts of 64 pings, one in each frame as a port places them, without a port,
 * rings or another thread. Every figure includes the loop itself, which the variant `loop` measures alone.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GCProfiler } from 'node:v8';
import { Burst } from '../../src/handler/burst.ts';
import { TX } from '../../src/handler/handler.ts';
import { loadHandler } from '../../src/handler/load-handler.ts';
import { openPort } from '../../src/index.ts';
import { until } from '../../src/lab/wait.ts';
import { BURST, HEADROOM } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import { CIRCULATING } from '../rigs/bare-loop.ts';
import type { Garbage } from '../rigs/garbage-handler.ts';
import { nanosEach } from '../rigs/timing.ts';
import { type Benchmark, type Budget, comparisons, type Sample, type Variant } from '../runner/benchmark.ts';

const FRAME_SIZE = 2048;
const GEOMETRY = { pageSize: 4096, ports: 1, queues: 1, frameSize: FRAME_SIZE };
/** A ping from 10.77.0.1 to 10.77.0.2, 64 bytes with its Ethernet header. */
const PING = Buffer.from(
  '0200000000020200000000990800' +
    '4500003212344000400103fb0a4d00010a4d0002' +
    '0800ddb7abcd0001000102030405060708090a0b0c0d0e0f101112131415',
  'hex',
);
/** Bursts between readings of the clock. */
const PORTION = 20_000;
/** Portions before V8 has compiled everything. */
const WARM = 20;

/** Nanoseconds a packet, and collections of garbage. */
async function measure(
  url: URL | undefined,
  options: Record<string, unknown>,
  seconds: number,
): Promise<Sample> {
  const memory = Memory.create({ ...GEOMETRY, framesPerWorker: BURST, ringEntries: 64 });
  const burst = new Burst(memory, 0);
  for (let i = 0; i < BURST; i++) {
    burst.offset[i] = memory.layout.frames + i * FRAME_SIZE + HEADROOM;
    burst.bytes[i] = PING.length;
    memory.bytes.set(PING, burst.offset[i]);
  }
  setMac(memory, 0, '02:00:00:00:00:02');
  const where = { queue: 0, queues: 1, memory, burst };
  const loaded = url && (await loadHandler(url.href, options, where));
  const handle = loaded ? loaded.handle : () => {};
  const run = (bursts: number): void => {
    for (let n = 0; n < bursts; n++) {
      burst.begin(BURST);
      handle(burst);
    }
  };
  for (let n = 0; n < WARM; n++) run(PORTION);
  const profiler = new GCProfiler();
  profiler.start();
  const ns = nanosEach(seconds, () => {
    run(PORTION);
    return PORTION * BURST;
  });
  const collections = profiler.stop()!.statistics.length;
  if (loaded && burst.verdict.some((verdict) => verdict !== TX))
    throw new Error(`${url} did not send all packets`);
  return { ns, collections };
}

/** Handlers in two languages, and what each does. */
const HANDLERS = {
  reflect: 'the built-in reflect: MAC addresses exchanged',
  verdict: 'a verdict and nothing else',
  header: 'EtherType and IP version read',
  checksum: 'a field changed and the IPv4 checksum updated',
};

const measured =
  (file: string, kind = ''): Variant =>
  ({ seconds }) =>
    measure(new URL(file, import.meta.url), { kind }, seconds);

export const handler: Benchmark = {
  name: 'handler',
  about: 'what a handler itself costs a packet, over bursts of 64 on one core, without a port',
  variants: {
    loop: ({ seconds }) => measure(undefined, {}, seconds),
    reflectJs: measured('../../src/handlers/reflect.js'),
    reflectWasm: measured('../../src/handlers/reflect.wasm'),
    verdictJs: measured('../rigs/handlers.js', 'verdict'),
    verdictWasm: measured('../wasm/verdict.wasm'),
    headerJs: measured('../rigs/handlers.js', 'header'),
    headerWasm: measured('../wasm/header.wasm'),
    checksumJs: measured('../rigs/handlers.js', 'checksum'),
    checksumWasm: measured('../wasm/checksum.wasm'),
  },
  comparisons: comparisons(
    `
    handler:{kind}-{language}         | {kind}{Language}.ns          | ns          |     | {KIND}, in {LANGUAGE}
    handler:{kind}-{language}-garbage | {kind}{Language}.collections | collections | ≤ 0 | garbage collections meanwhile
  `,
    { kind: HANDLERS, language: { js: 'TypeScript', wasm: 'WebAssembly' } },
  ),
  full: { runs: 5, seconds: 0.5 },
  quick: { runs: 2, seconds: 0.3 },
};

/** V8 has compiled everything after these. */
const WARM_PACKETS = 30_000_000;
const MAX_MILLIS = 60_000;
const PER_SECOND = 50_000_000;

async function port({ seconds }: Budget): Promise<Sample> {
  const folder = mkdtempSync(join(tmpdir(), 'twinpath-garbage-'));
  const file = join(folder, 'garbage.json');
  const measured = seconds * PER_SECOND;
  const handler = new URL('../rigs/garbage-handler.js', import.meta.url);
  const handlerOptions = { packets: CIRCULATING, warm: WARM_PACKETS, measured, file };
  const port = await openPort({ network: 'loop', queues: 1, mode: 'poll', handler, handlerOptions });
  try {
    port.plug('vf');
    await until(`${measured} packets`, MAX_MILLIS, () => existsSync(file));
    await sleep(50); // the file is written at once, but it may be read half-written
    const garbage = JSON.parse(readFileSync(file, 'utf8')) as Garbage;
    const { packets, allocated, collections, longestPause } = garbage;
    return { bytes: allocated / packets, perMillion: (allocated / packets) * 1e6, collections, longestPause };
  } finally {
    await port.close();
    rmSync(folder, { recursive: true });
  }
}

// Packets must allocate nothing. The few bytes come with time, from the handler's ticks. An object has at least 16 bytes.
export const garbage: Benchmark = {
  name: 'garbage',
  about: 'what V8 allocates and collects in a worker, packets circulating through the whole port',
  variants: { port },
  comparisons: comparisons(`
    garbage             | port.perMillion   | bytes       | ≤ 1000 | bytes allocated per million packets: one object for each burst of them would be 250,000
    garbage:collections | port.collections  | collections | ≤ 0    | garbage collections meanwhile
    garbage:pause       | port.longestPause | µs          | ≤ 0    | the longest of them
  `),
  full: { runs: 3, seconds: 2 },
  quick: { runs: 2, seconds: 0.5 },
};
