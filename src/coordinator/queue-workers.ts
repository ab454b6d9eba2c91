/**
 * The queue worker threads: one endless piscina task each. A worker that dies is replaced by a new one, which
 * goes on from the shared memory. Coordinator thread only; nothing here depends on the application's.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { TwinpathError } from '../errors.ts';
import { packageRoot } from '../kernel/shim.ts';
import type { SharedMemory } from '../memory/layout.ts';
import type { Settings } from '../options.ts';
import type { PlainError, WorkerNews } from './messages.ts';

/** A queue worker's task. */
export interface QueueTask {
  readonly shared: SharedMemory;
  readonly settings: Settings;
  readonly queue: number;
  /** MAC address of each port. */
  readonly macs: readonly string[];
  /** Where the worker tells what happens to it. */
  readonly reports: MessagePort;
}

export type QueueReport = { kind: 'started' } | { kind: 'handler'; message: string; times: number };

export interface WorkerEvents {
  worker(news: WorkerNews): void;
  error(error: PlainError): void;
  /** The queue's worker is gone and, since the ports are closing, none will follow. */
  left(queue: number): void;
}

/** A worker thread, from its task's start to its end. */
interface Life {
  readonly queue: number;
  readonly abort: AbortController;
  polls: boolean;
}

/** Workers in a row that died before they polled, after which the next one has to wait. */
const HOPELESS = 5;
const PAUSE_MILLIS = 1_000;
/** How long closing waits for a handler that does not return before it ends its thread. */
const GRACE_MILLIS = 5_000;

export class QueueWorkers {
  readonly #pool: Piscina<QueueTask, PlainError | undefined>;
  readonly #shared: SharedMemory;
  readonly #settings: Settings;
  readonly #macs: readonly string[];
  readonly #events: WorkerEvents;
  readonly #lives = new Set<Life>();
  readonly #closing = new AbortController();
  #kept: Promise<unknown> = Promise.resolve();
  #grace: NodeJS.Timeout | undefined;

  constructor(shared: SharedMemory, settings: Settings, macs: readonly string[], events: WorkerEvents) {
    this.#shared = shared;
    this.#settings = settings;
    this.#macs = macs;
    this.#events = events;
    this.#pool = new Piscina({
      filename: workerFile('queue').href,
      minThreads: settings.queues,
      maxThreads: settings.queues,
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      workerHistogram: false,
    });
    // A thread that fails before it takes a task leaves the task waiting for ever: end those that may wait.
    this.#pool.on('error', (error) => this.#end(error, ({ polls }) => !polls));
  }

  /** Resolves once every worker polls. @throws ERR_HANDLER, ERR_WORKER, whatever the handler's create threw */
  async start(): Promise<void> {
    const queues = Array.from({ length: this.#settings.queues }, (_, queue) => queue);
    const kept: Promise<void>[] = [];
    const started = queues.map(
      (queue) => new Promise<void>((resolve, reject) => kept.push(this.#keep(queue, resolve).catch(reject))),
    );
    this.#kept = Promise.all(kept);
    await Promise.all(started);
  }

  /** From here on no worker is replaced, and one that is stuck in its handler is ended after a while. */
  close(): void {
    this.#closing.abort();
    this.#grace ??= setTimeout(() => this.#end(new Error('its handler does not return')), GRACE_MILLIS);
  }

  /** Ends a worker whose handler does not return; another follows. */
  endStuck(queue: number): void {
    this.#end(new Error('its handler does not return'), (life) => life.queue === queue);
  }

  /** After the stop word is set: waits until all have returned. */
  async stop(): Promise<void> {
    this.close();
    await this.#kept;
    clearTimeout(this.#grace);
    await this.#pool.destroy();
  }

  /** Sees that the queue has a worker until the ports close. Rejects if it never got one that polls. */
  async #keep(queue: number, started: () => void): Promise<void> {
    const { signal } = this.#closing;
    let served = false;
    let failures = 0;
    let told = '';
    while (!signal.aborted) {
      const life: Life = { queue, abort: new AbortController(), polls: false };
      const reason = await this.#live(queue, life, started);
      if (reason === undefined) return;
      this.#events.worker({ queue, state: 'died', detail: reason.message });
      served ||= life.polls;
      failures = life.polls ? 0 : failures + 1;
      // What a handler's module throws it will throw again.
      if (failures < HOPELESS && !(reason instanceof TwinpathError)) continue;
      const error =
        reason instanceof TwinpathError
          ? reason
          : new TwinpathError('ERR_WORKER', { detail: `queue ${queue}: ${reason.message}` });
      if (!served) throw error;
      if (told !== error.message) this.#events.error(error.toJSON());
      told = error.message;
      await sleep(PAUSE_MILLIS, undefined, { signal }).catch(() => {});
    }
    this.#events.left(queue);
  }

  /** One worker's life. Tells why it ended, if it was not told to. */
  async #live(queue: number, life: Life, started: () => void): Promise<Error | undefined> {
    const { port1: reports, port2 } = new MessageChannel();
    reports.on('message', (report: QueueReport) => {
      if (report.kind === 'started') {
        life.polls = true;
        this.#events.worker({ queue, state: 'started' });
        started();
        return;
      }
      const detail = `queue ${queue}: ${report.message} (${report.times} so far)`;
      this.#events.error({ code: 'ERR_HANDLER_THREW', device: this.#settings.handler, detail });
    });
    const context = { shared: this.#shared, settings: this.#settings, macs: this.#macs };
    const { signal } = life.abort;
    this.#lives.add(life);
    try {
      const task: QueueTask = { ...context, queue, reports: port2 };
      const failed = await this.#pool.run(task, { transferList: [port2], signal });
      return failed && TwinpathError.from(failed);
    } catch (error) {
      return (signal.reason ?? error) as Error;
    } finally {
      this.#lives.delete(life);
      reports.close();
    }
  }

  #end(reason: Error, which: (life: Life) => boolean = () => true): void {
    for (const life of this.#lives) if (which(life)) life.abort.abort(reason);
  }
}

/** Thread entries lie in workers/, beside src/, before and after the build. */
export function workerFile(name: string): URL {
  const built = import.meta.url.endsWith('.js');
  return new URL(`file://${packageRoot}${built ? '/dist' : ''}/workers/${name}.${built ? 'js' : 'ts'}`);
}
