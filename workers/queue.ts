/** Thread entry of a queue worker: a piscina task that polls until it is told to stop. Returns why it could not. */
import { availableParallelism } from 'node:os';
import type { PlainError } from '../src/coordinator/messages.ts';
import type { QueueReport, QueueTask } from '../src/coordinator/queue-workers.ts';
import { Burst } from '../src/datapath/burst.ts';
import { loadHandler } from '../src/datapath/load-handler.ts';
import { runWorker } from '../src/datapath/worker.ts';
import { TwinpathError } from '../src/errors.ts';
import { waivePrecedence } from '../src/kernel/niceness.ts';
import { loadShim } from '../src/kernel/shim.ts';
import { Memory } from '../src/memory/shared.ts';

export default async function queueWorker({
  shared,
  settings,
  queue,
  macs,
  reports,
}: QueueTask): Promise<PlainError | undefined> {
  const tell = (report: QueueReport): void => reports.postMessage(report);
  try {
    const shim = loadShim();
    const memory = Memory.attach(shared);
    shim.threadName(`twinpath-q${queue}`);
    waivePrecedence(); // the coordinator's, whose thread made this one
    if (settings.pin) shim.affinity(queue % availableParallelism());
    const burst = new Burst(memory, queue);
    const context = { queue, queues: settings.queues, macs, memory, burst };
    const handler = await loadHandler(settings.handler, settings.handlerOptions, context);
    tell({ kind: 'started' });
    const failed = (error: unknown, times: number): void =>
      tell({ kind: 'handler', message: error instanceof Error ? error.message : String(error), times });
    const rssKey = settings.rss === 'device' ? undefined : settings.rssKey;
    runWorker({
      ...{
        shim,
        memory,
        queue,
        mode: settings.mode,
        burst,
        handler,
        failed,
        rssKey,
        routes: settings.forwardTo,
      },
    });
    return undefined;
  } catch (error) {
    if (!(error instanceof TwinpathError)) throw error;
    return error.toJSON();
  }
}
