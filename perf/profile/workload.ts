/**
 * The load that profilers watch: a port under load, as a program. Its argument is a {@link Load} as JSON.
 *
 * Prints one JSON line when packets flow and one when it has ended (load.ts). Ctrl-C ends it early and in good order.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Interruption } from '../../src/cli/interruption.ts';
import { threadEnvironment } from '../../src/coordinator/thread-environment.ts';
import { openPort, type Port } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { openLabPort, plug } from '../rigs/lab.ts';
import { runInline } from './inline.ts';
import type { Ended, Load, Started } from './load.ts';
import type { NetworkData } from './network.ts';

/** UDP packets a second over veth: more than the generator can send. */
const RATE = 1_000_000;
/** Answers to reflected packets never arrive, so this many may be under way: as many as there are. */
const WINDOW = 1_000_000;
/** How often the application reads the port's statistics, as one with a dashboard does. */
const LOOK_MILLIS = 100;

const load = JSON.parse(process.argv[2]!) as Load;
const { signal } = new Interruption();
const handlerFile = `${load.handler}.${load.wasm ? 'wasm' : 'js'}`;
const handler = new URL(`../../src/handlers/${handlerFile}`, import.meta.url);

const tell = (message: Started | Ended): void => void process.stdout.write(`${JSON.stringify(message)}\n`);

/** Watches the port until the time is over. Returns what it has sent. */
async function watch(port: Port): Promise<number> {
  const end = performance.now() + load.seconds * 1000;
  const before = port.stats().transmitted;
  while (!signal.aborted && performance.now() < end) {
    await sleep(LOOK_MILLIS, undefined, { signal }).catch(() => {});
    port.stats();
  }
  return port.stats().transmitted - before;
}

async function overMemory(started: () => void): Promise<number> {
  // Each packet stays on the queue it came by.
  const port = await openPort({
    network: 'memory',
    queues: load.queues,
    rss: 'device',
    mode: 'poll',
    handler,
  });
  const stop = new SharedArrayBuffer(4);
  const workerData: NetworkData = { shared: port.shared, stop };
  const network = new Worker(new URL('network.js', import.meta.url), {
    workerData,
    env: threadEnvironment(),
  });
  const ended = once(network, 'exit');
  try {
    started();
    return await watch(port);
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await ended;
    await port.close();
  }
}

async function overVeth(started: () => void): Promise<number> {
  await using lab = await Lab.create({ queues: load.queues });
  const port = await openLabPort(lab, handlerFile, { queues: load.queues, pin: false });
  try {
    await plug(lab, port);
    const window = load.handler === 'reflect' ? { window: WINDOW } : {};
    const traffic = await Traffic.start(lab, lab.nic, { rate: RATE, icmpRate: 0, ...window });
    try {
      started();
      return await watch(port);
    } finally {
      await traffic.stop({ settleMillis: 0 });
    }
  } finally {
    await port.close();
  }
}

async function inline(started: () => void): Promise<number> {
  started();
  return await runInline(handler, load.seconds, signal);
}

try {
  let began = performance.now();
  const packets = await (load.inline ? inline : { memory: overMemory, veth: overVeth }[load.network])(() => {
    tell({ kind: 'started', pid: process.pid });
    began = performance.now();
  });
  tell({ kind: 'ended', seconds: (performance.now() - began) / 1000, packets });
  if (packets === 0) throw new Error('no packet came back');
  // No process.exit: a profiler writes its results when the event loop is empty.
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
