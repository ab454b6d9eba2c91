/**
 * What a handler itself costs: nanoseconds a packet over bursts of 64 pings, one in each frame as a port lays them, in
 * a plain loop; no port, no rings, no other thread. What the loop costs alone is in every figure, and is told as `loop`.
 */
import { GCProfiler } from 'node:v8';
import { Burst } from '../../src/handler/burst.ts';
import { loadHandler } from '../../src/handler/load-handler.ts';
import { TX } from '../../src/handler/verdict.ts';
import { BURST, HEADROOM } from '../../src/memory/layout.ts';
import { setMac } from '../../src/memory/macs.ts';
import { Memory } from '../../src/memory/shared.ts';
import type { Comparison, Row, Sample, Side } from '../row.ts';

const FRAME_SIZE = 2048;
/** A ping from 10.77.0.1 to 10.77.0.2, 64 bytes with its Ethernet header. */
const PING = Buffer.from(
  '0200000000020200000000990800' +
    '4500003212344000400103fb0a4d00010a4d0002' +
    '0800ddb7abcd0001000102030405060708090a0b0c0d0e0f101112131415',
  'hex',
);
/** Bursts between looks at the clock. */
const PORTION = 20_000;
/** Portions before V8 has compiled everything. */
const WARM = 20;

/** Nanoseconds a packet, and collections of garbage. */
async function measure(file: string | undefined, seconds: number): Promise<Sample> {
  const memory = Memory.create({
    ...{
      pageSize: 4096,
      ports: 1,
      queues: 1,
      frameSize: FRAME_SIZE,
      framesPerWorker: BURST,
      ringEntries: 64,
    },
  });
  const burst = new Burst(memory, 0);
  for (let i = 0; i < BURST; i++) {
    burst.offset[i] = memory.layout.frames + i * FRAME_SIZE + HEADROOM;
    burst.bytes[i] = PING.length;
    memory.bytes.set(PING, burst.offset[i]);
  }
  setMac(memory, 0, '02:00:00:00:00:02');
  const where = { queue: 0, queues: 1, memory, burst };
  const loaded = file && (await loadHandler(new URL(file, import.meta.url).href, {}, where));
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
  let packets = 0;
  let nanos = 0;
  const began = process.hrtime.bigint();
  while (nanos < seconds * 1e9) {
    run(PORTION);
    packets += PORTION * BURST;
    nanos = Number(process.hrtime.bigint() - began);
  }
  const collections = profiler.stop()!.statistics.length;
  if (loaded && burst.verdict.some((verdict) => verdict !== TX))
    throw new Error(`${file} sent not all packets`);
  return { ns: nanos / packets, collections };
}

const KINDS = {
  reflect: 'the built-in reflect: MAC addresses exchanged',
  verdict: 'a verdict and nothing else',
  header: 'EtherType and IP version read',
  checksum: 'a field changed and the IPv4 checksum updated',
} as const;

const sides: Record<string, Side> = { loop: ({ seconds }) => measure(undefined, seconds) };
const comparisons: Comparison[] = [];
for (const [kind, what] of Object.entries(KINDS)) {
  const folder = kind === 'reflect' ? '../../src/handlers' : undefined;
  const js = `${folder ?? '../handlers'}/${kind}${import.meta.url.slice(-3)}`;
  sides[`${kind}Js`] = ({ seconds }) => measure(js, seconds);
  sides[`${kind}Wasm`] = ({ seconds }) => measure(`${folder ?? '../wasm'}/${kind}.wasm`, seconds);
  for (const [language, suffix] of Object.entries({ TypeScript: 'js', WebAssembly: 'wasm' })) {
    const side = `${kind}${suffix === 'js' ? 'Js' : 'Wasm'}`;
    const name = comparisons.length === 0 ? 'handler' : `handler:${kind}-${suffix}`;
    comparisons.push(
      { name, about: `${what}, in ${language}`, ...{ ours: `${side}.ns`, unit: 'ns', better: 'lower' } },
      {
        name: `handler:${kind}-${suffix}-garbage`,
        about: 'garbage collections meanwhile',
        ...{ ours: `${side}.collections`, unit: 'collections', better: 'lower', goal: 0 },
      },
    );
  }
}

export const row: Row = {
  name: 'handler',
  about: 'what a handler itself costs a packet, over bursts of 64 on one core, without a port',
  sides,
  comparisons,
  full: { runs: 5, seconds: 0.5 },
  quick: { runs: 2, seconds: 0.3 },
};
