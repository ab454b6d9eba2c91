/**
 * Thread entry of a queue worker: a piscina task that polls until the ports close. If the task ends in another way, it
 * reports why and the thread ends with it.
 */
import { availableParallelism } from 'node:os';
import { complete } from '../src/coordinator/completion.ts';
import { endLoading } from '../src/coordinator/loading.ts';
import type { QueueReport, QueueTask } from '../src/coordinator/queue-workers.ts';
import { takeLease } from '../src/datapath/lease.ts';
import { runWorker } from '../src/datapath/worker.ts';
import { TwinpathError } from '../src/errors.ts';
import { Burst } from '../src/handler/burst.ts';
import { bound } from '../src/handler/jit.ts';
import type { LoadedHandler } from '../src/handler/load-handler.ts';
import { loadHandlers } from '../src/handler/load-handlers.ts';
import host from '../src/handlers/host.ts';
import { resetPriority, threadNumber } from '../src/kernel/machine.ts';
import { loadShim } from '../src/kernel/shim.ts';
import { WorkerMail } from '../src/mailbox/worker-mail.ts';
import { Memory } from '../src/memory/shared.ts';

export default async function queueWorker(task: QueueTask): Promise<undefined> {
  const { reports } = task;
  try {
    if (await serve(task, (report) => reports.postMessage(report))) return;
  } catch (error) {
    if (!(error instanceof TwinpathError)) throw error;
    reports.postMessage({ kind: 'failed', error: error.toJSON() } satisfies QueueReport);
  } finally {
    task.mail?.line.close(); // the thread may live on, and the application would wait for its answers
  }
  process.exit(1);
}

/** Returns true if it stopped because the ports close. */
async function serve(
  { shared, settings, queue, worker, fallback, ready, handlerLoaded, reports, mail }: QueueTask,
  report: (report: QueueReport) => void,
): Promise<boolean> {
  const shim = loadShim();
  const memory = Memory.attach(shared);
  endLoading(memory, ready);
  shim.threadName(`twinpath-q${queue}`);
  resetPriority(); // the coordinator's, whose thread made this one
  if (settings.pin) shim.affinity(queue % availableParallelism());
  const burst = new Burst(memory, queue);
  const { queues, metadata } = settings;
  const context = { queue, queues, memory, burst, metadata };
  const { handlers: modules, handlerOf } = settings;
  const urls = modules.map(({ url }) => url);
  const mailbox = mail && new WorkerMail({ memory, queue, urls, handlerOf, control: reports, ...mail });
  const load = async (): Promise<LoadedHandler[]> =>
    fallback
      ? modules.map(() => ({ handle: bound(host, burst), tick: undefined, tickMillis: 1 }))
      : await loadHandlers(modules, context, (handler, value) => mailbox!.post(handler, value));
  const loaded = await load().finally(() => complete(handlerLoaded));
  if (mailbox !== undefined) mailbox.handlers = loaded;
  const handlers = handlerOf.map((index) => loaded[index]!);
  Atomics.or(memory.words, memory.control.at('metadata'), burst.metadata);
  report({ kind: 'loaded' });
  takeLease(memory, queue, worker);
  memory.workers[queue]!.thread = threadNumber();
  report({ kind: 'worker', event: { queue, state: fallback ? 'fallback' : 'started' } });
  const failed = (error: unknown, times: number, port: number): void => {
    const message = error instanceof Error ? error.message : String(error);
    const detail = `queue ${queue}: ${message} (${times} so far)`;
    const device = urls[handlerOf[port]!];
    report({ kind: 'error', event: { code: 'ERR_HANDLER_THREW', device, detail }, port });
  };
  const hashes = settings.rss !== 'device';
  const { forwardTo: routes } = settings;
  const own = { shim, memory, queue, burst, handlers, failed, mail: mailbox };
  return runWorker({ ...own, hashes, routes, worker, fallback });
}
