/**
 * What the profilers look at: a port under load. `node dist/perf/profiling/workload.js --help`.
 *
 * Prints one JSON line when the load flows, and one when it has ended; said.ts has what
 * they hold. Ctrl-C ends it early and in good order.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Interruption } from '../../src/cli/interruption.ts';
import { threadEnvironment } from '../../src/coordinator/thread-environment.ts';
import { TwinpathError } from '../../src/errors.ts';
import { openPort, type Port } from '../../src/index.ts';
import { Lab } from '../../src/lab/host.ts';
import { Traffic } from '../../src/lab/traffic.ts';
import { runInline } from './inline-port.ts';
import type { NetworkData } from './network.ts';
import { parseWorkload, UsageError, type Workload } from './options.ts';
import type { Ended, Message } from './said.ts';

const HELP = `A port under load, to be profiled. It prints a JSON line when the load flows, and one at the end.

    node dist/perf/profiling/workload.js [--network memory|veth] [--handler reflect|echo] [--wasm]
                                         [--queues 1] [--seconds 10] [--inline]

  --network memory  rings in memory, the network being another thread (default)
  --network veth    the VF of a lab, under UDP from the lab's outside host; needs root
  --handler NAME    what the queue workers run
  --wasm            its WebAssembly twin
  --inline          one thread: the poll loop runs on the main thread, over the memory path
`;

/** UDP packets a second over veth: more than the generator can send. */
const RATE = 1_000_000;
/** Answers to reflected packets never arrive, so this many are under way: as many as may be. */
const WINDOW = 1_000_000;
/** How often the application looks at its port, as one with a dashboard does. */
const LOOK_MILLIS = 100;
const PATIENCE_MILLIS = 10_000;

const handlerUrl = ({ handler, wasm }: Workload): URL =>
  new URL(`../../src/handlers/${handler}.${wasm ? 'wasm' : 'js'}`, import.meta.url);

const tell = (message: Message): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`);
};

/** Watches the port until the time is over. Returns what it has sent. */
async function watch(port: Port, { seconds }: Workload, signal: AbortSignal): Promise<Ended> {
  tell({ kind: 'started', pid: process.pid });
  const began = performance.now();
  const before = port.stats().transmitted;
  while (!signal.aborted && performance.now() < began + seconds * 1000) {
    await sleep(LOOK_MILLIS, undefined, { signal }).catch(() => {});
    port.stats();
  }
  const packets = port.stats().transmitted - before;
  return { kind: 'ended', seconds: (performance.now() - began) / 1000, packets };
}

async function overMemory(workload: Workload, signal: AbortSignal): Promise<Ended> {
  const { queues } = workload;
  // Which queue a packet belongs to is nobody's concern here: it stays on the one it came by.
  const port = await openPort({
    ...{ network: 'memory', queues, rss: 'device', mode: 'poll', handler: handlerUrl(workload) },
  });
  const stop = new SharedArrayBuffer(4);
  const workerData: NetworkData = { shared: port.shared, stop };
  const network = new Worker(new URL('network.js', import.meta.url), {
    workerData,
    env: threadEnvironment(),
  });
  const ended = once(network, 'exit');
  try {
    return await watch(port, workload, signal);
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await ended;
    await port.close();
  }
}

async function overVeth(workload: Workload, signal: AbortSignal): Promise<Ended> {
  const { queues } = workload;
  const lab = await Lab.create({ queues });
  try {
    const { nic } = lab;
    const port = await openPort({
      ...{ netns: lab.guest, netvsc: nic.netvsc, force: true, queues, handler: handlerUrl(workload) },
      ...(workload.handler === 'echo' ? { handlerOptions: { address: nic.guestAddress } } : {}),
    });
    try {
      await nic.plug();
      const deadline = performance.now() + PATIENCE_MILLIS;
      while (!port.stats().queues.every(({ owner }) => owner === 'vf')) {
        if (performance.now() > deadline) throw new Error('the port did not take the VF');
        await sleep(5);
      }
      await nic.moveDataPath('vf');
      const answers = workload.handler === 'echo';
      const traffic = await Traffic.start(lab, nic, {
        ...{ rate: RATE, icmpRate: 0 },
        ...(answers ? {} : { window: WINDOW }),
      });
      try {
        return await watch(port, workload, signal);
      } finally {
        await traffic.stop({ settleMillis: 0 });
      }
    } finally {
      await port.close();
    }
  } finally {
    await lab.close();
  }
}

async function inline(workload: Workload, signal: AbortSignal): Promise<Ended> {
  tell({ kind: 'started', pid: process.pid });
  const began = performance.now();
  const packets = await runInline(handlerUrl(workload), workload.seconds, signal);
  return { kind: 'ended', seconds: (performance.now() - began) / 1000, packets };
}

try {
  const workload = parseWorkload(process.argv.slice(2));
  if (workload === 'help') process.stdout.write(HELP);
  else {
    const { signal } = new Interruption();
    const run = workload.inline ? inline : { memory: overMemory, veth: overVeth }[workload.network];
    const ended = await run(workload, signal);
    tell(ended);
    if (ended.packets === 0) throw new Error('no packet came back');
  }
  // No process.exit: what a profiler has to write it writes when the event loop is empty.
} catch (error) {
  if (error instanceof UsageError || error instanceof TwinpathError || error instanceof Error) {
    process.stderr.write(`${error.message}\n`);
  } else throw error;
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
