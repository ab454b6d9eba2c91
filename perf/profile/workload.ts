/**
 * The load that profilers watch: a port under load, as a program. Its argument is a {@link Load} as JSON.
 *
 * It prints one JSON line when it has ended (load.ts). Ctrl-C ends it early and in good order.
 * This file is also the entry of the thread that plays the network of a port on the memory path.
 */
import { once } from 'node:events';
import { setImmediate as eventLoop, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { Interruption } from '../../src/cli/interruption.ts';
import { threadEnvironment } from '../../src/coordinator/thread-environment.ts';
import { openPort, type Port } from '../../src/index.ts';
import { loadShim } from '../../src/kernel/shim.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import type { SharedMemory } from '../../src/memory/geometry.ts';
import { BURST, Path } from '../../src/memory/layout.ts';
import { Memory } from '../../src/memory/shared.ts';
import { MemoryPeer } from '../../src/paths/memory/peer.ts';
import { bareLoop } from '../rigs/bare-loop.ts';
import { openLabPort, plug } from '../rigs/lab.ts';
import type { Ended, Load } from './load.ts';

/** UDP packets a second over veth: more than the generator can send. Reflected ones never arrive, so as many are under way. */
const RATE = 1_000_000;
/** How often the application reads the port's statistics, as one with a dashboard does. */
const LOOK_MILLIS = 100;

/** Bytes of a packet on the memory path. */
const BYTES = 60;

/** What the network's thread is started with. */
interface NetworkData {
  readonly shared: SharedMemory;
  /** One word, 1 once the thread is to stop. */
  readonly stop: Int32Array;
}

/** Its time begins when packets flow. */
type Run = (load: Load, signal: AbortSignal) => Promise<Pick<Ended, 'seconds' | 'packets'>>;

const handlerOf = ({ wasm }: Load): string => `reflect.${wasm ? 'wasm' : 'js'}`;

/** Reads the port's statistics until the time is over, and counts what it has sent meanwhile. */
async function watch(port: Port, load: Load, signal: AbortSignal): ReturnType<Run> {
  const began = performance.now();
  const before = port.stats().transmitted;
  while (!signal.aborted && performance.now() < began + load.seconds * 1000) {
    await sleep(LOOK_MILLIS, undefined, { signal }).catch(() => {});
    port.stats();
  }
  const packets = port.stats().transmitted - before;
  return { seconds: (performance.now() - began) / 1000, packets };
}

const overMemory: Run = async (load, signal) => {
  const handler = new URL(`../../src/handlers/${handlerOf(load)}`, import.meta.url);
  // Each packet stays on the queue that received it.
  const where = { network: 'memory', queues: load.queues, rss: 'device', mode: 'poll' } as const;
  const port = await openPort({ ...where, handler });
  const data: NetworkData = { shared: port.shared, stop: new Int32Array(new SharedArrayBuffer(4)) };
  const network = new Worker(fileURLToPath(import.meta.url), { workerData: data, env: threadEnvironment() });
  const ended = once(network, 'exit');
  try {
    return await watch(port, load, signal);
  } finally {
    Atomics.store(data.stop, 0, 1);
    await ended;
    await port.close();
  }
};

/** Sends what the port receives and takes what it sends, one queue after the other. */
function playNetwork({ shared, stop }: NetworkData): void {
  loadShim().threadName('network');
  const memory = Memory.attach(shared);
  const queues = Array.from({ length: shared.geometry.queues }, (_, queue) => queue);
  const peers = queues.map((queue) => MemoryPeer.attach(memory, 0, queue, Path.SYNTHETIC)!);
  const discard = (): void => {};
  const length = (): number => BYTES;
  while (Atomics.load(stop, 0) === 0) {
    for (const peer of peers) {
      peer.deliver(BURST, length);
      peer.collect(BURST, discard);
    }
  }
}

const overVeth: Run = async (load, signal) => {
  await using lab = await Lab.create({ queues: load.queues });
  const port = await openLabPort(lab, handlerOf(load), { queues: load.queues, pin: false });
  try {
    await plug(lab, port);
    const traffic = await Traffic.start(lab, lab.nic, { rate: RATE, icmpRate: 0, window: RATE });
    try {
      return await watch(port, load, signal);
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

if (isMainThread) await main(JSON.parse(process.argv[2]!));
else playNetwork(workerData);
