/**
 * The load that profilers watch: a port under load, as a program. Its argument is a {@link Load} as JSON.
 *
 * It prints one JSON line when it has ended (load.ts). Ctrl-C ends it early and in good order.
 */
import { rmSync } from 'node:fs';
import { setImmediate as eventLoop, setTimeout as sleep } from 'node:timers/promises';
import { Interruption } from '../../src/cli/interruption.ts';
import { openPort, type Port } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { BYTES, bareLoop, CIRCULATING } from '../rigs/bare-loop.ts';
import { openLabPort, ownedBy, plug } from '../rigs/lab.ts';
import type { Ended, Load } from './load.ts';

/** UDP packets a second over veth: more than the generator can send. Reflected ones never arrive, so as many are under way. */
const RATE = 1_000_000;
/** How often the application reads the port's statistics, as one with a dashboard does. */
const LOOK_MILLIS = 100;

/** Its time begins when packets flow. */
type Run = (load: Load, signal: AbortSignal) => Promise<Pick<Ended, 'seconds' | 'packets'>>;

/** Reads the port's statistics until the time is over, and counts what it has sent meanwhile. */
async function watch(port: Port, seconds: number, signal: AbortSignal): ReturnType<Run> {
  const began = performance.now();
  const before = port.stats().transmitted;
  while (!signal.aborted && performance.now() < began + seconds * 1000) {
    await sleep(LOOK_MILLIS, undefined, { signal }).catch(() => {});
    port.stats();
  }
  const packets = port.stats().transmitted - before;
  return { seconds: (performance.now() - began) / 1000, packets };
}

/** Packets circulate: each path hands back what is sent through it. The handlers exchange MAC addresses, as reflect does. */
const overMemory: Run = async ({ queues, wasm, ...load }, signal) => {
  const [handler, options] = wasm
    ? ['../wasm/circulate.wasm', { packets: CIRCULATING, bytes: BYTES }]
    : ['../rigs/circulate-handler.js', { loaded: queues, packets: CIRCULATING }];
  const where = { network: 'loop', queues, rss: 'device', mode: 'poll' } as const;
  const port = await openPort({
    ...where,
    handler: new URL(handler, import.meta.url),
    handlerOptions: options,
  });
  try {
    port.plug('vf');
    await ownedBy(port, 'vf');
    return await watch(port, load.seconds, signal);
  } finally {
    await port.close();
  }
};

const overVeth: Run = async (load, signal) => {
  await using lab = await Lab.create({ queues: load.queues });
  const port = await openLabPort(lab, `reflect.${load.wasm ? 'wasm' : 'js'}`, {
    queues: load.queues,
    pin: false,
  });
  try {
    await plug(lab, port);
    const traffic = await Traffic.start(lab, lab.nic, { rate: RATE, icmpRate: 0, window: RATE });
    try {
      return await watch(port, load.seconds, signal);
    } finally {
      await traffic.stop({ settleMillis: 0 });
    }
  } finally {
    await port.close();
  }
};

/** The datapath's loop on the main thread. Between its calls the event loop runs, and Ctrl-C is noticed. */
const inline: Run = async ({ wasm, seconds }, signal) => {
  const loop = await bareLoop(wasm ? 'wasm' : 'js');
  const began = performance.now();
  let packets = 0;
  while (!signal.aborted && performance.now() < began + seconds * 1000) {
    packets += loop();
    await eventLoop();
  }
  return { seconds: (performance.now() - began) / 1000, packets };
};

async function main(load: Load): Promise<void> {
  const { signal } = new Interruption();
  // V8's map for Linux perf, which reads it when this process has ended well. Ctrl-C ends it by two signals, perf's is the second.
  process.once('exit', (code) => code !== 0 && rmSync(`/tmp/perf-${process.pid}.map`, { force: true }));
  const run = load.inline ? inline : { memory: overMemory, veth: overVeth }[load.network];
  try {
    const ended: Ended = { kind: 'ended', pid: process.pid, ...(await run(load, signal)) };
    process.stdout.write(`${JSON.stringify(ended)}\n`);
    if (ended.packets === 0) throw new Error('no packet came back');
    // No process.exit: a profiler writes its results when the event loop is empty.
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

await main(JSON.parse(process.argv[2]!));
