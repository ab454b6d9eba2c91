/**
 * The queue worker threads: one endless piscina task each, which a {@link QueueKeeper} for each queue starts and replaces.
 * Supervisor's thread only; nothing here depends on the application's.
 *
 * A thread serves one worker's life and ends with it: the modules that failed to load in it would fail there for ever.
 *
 * A thread is ended only once it is ready, and has loaded its handler if that takes no longer than such things take: see
 * latch.ts. One without a task has nothing to load, since the task names the file and not the pool.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { revokeLease } from '../datapath/lease.ts';
import { TwinpathError } from '../errors.ts';
import { packageRoot } from '../kernel/shim.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import { Memory } from '../memory/shared.ts';
import type { Settings } from '../options.ts';
import { type Latch, lift, lifted, newLatch } from './latch.ts';
import type { PlainError } from './messages.ts';
import { type Life, QueueKeeper, type WorkerEvents } from './queue-keeper.ts';

/** A queue worker's task. */
export interface QueueTask {
  readonly shared: SharedMemory;
  readonly settings: Settings;
  readonly queue: number;
  /** Its number: see datapath/lease.ts. */
  readonly worker: number;
  /** Whether it serves the queue without the port's handler. */
  readonly fallback: boolean;
  /** Where the worker tells what happens to it. */
  readonly reports: MessagePort;
  /** Lifted once the thread has loaded its modules and the shim: it is not ended before. */
  readonly ready: Latch;
  /** Lifted once it has loaded its handler, or failed to. */
  readonly handlerLoaded: Latch;
}

export type QueueReport =
  | { kind: 'loaded' }
  | { kind: 'started' }
  | { kind: 'handler'; message: string; times: number }
  | { kind: 'failed'; error: PlainError };

/** A thread that has not loaded its modules by then never will. */
const READY_MILLIS = 30_000;
/** Nor one that has not loaded its handler by then. What it is just reading of it would stay open: Node forgets it. */
const HANDLER_MILLIS = 1_000;
/** How long closing waits for a handler that does not return before it ends its thread. */
const GRACE_MILLIS = 5_000;

export class QueueWorkers {
  readonly #pool: Piscina<QueueTask, undefined>;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #events: WorkerEvents;
  /** In the order in which their tasks were given to the pool. */
  readonly #lives = new Map<Life, AbortController>();
  readonly #closing = new AbortController();
  #kept: Promise<unknown> = Promise.resolve();
  #grace: NodeJS.Timeout | undefined;
  #worker = 0;

  constructor(shared: SharedMemory, settings: Settings, events: WorkerEvents) {
    this.#memory = Memory.attach(shared);
    this.#settings = settings;
    this.#events = events;
    const { queues } = settings;
    this.#pool = new Piscina({
      minThreads: queues,
      maxThreads: 2 * queues, // one that serves a queue while another loads
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      workerHistogram: false,
    });
    // A thread that fails before it takes a task leaves one waiting for ever: those that no other thread will take.
    this.#pool.on('error', (error) => {
      const waiting = [...this.#lives.values()].slice(this.#lives.size - this.#pool.queueSize);
      for (const abort of waiting) abort.abort(error);
    });
  }

  /** Resolves once every worker polls. @throws ERR_HANDLER, ERR_WORKER, whatever the handler's create threw */
  async start(): Promise<void> {
    const queues = Array.from({ length: this.#settings.queues }, (_, queue) => queue);
    const kept: Promise<void>[] = [];
    const started = queues.map(
      (queue) =>
        new Promise<void>((resolve, reject) => {
          const site = {
            ...{ memory: this.#memory, settings: this.#settings, events: this.#events },
            launch: (fallback: boolean) => this.#launch(queue, fallback),
            pause: (millis: number, signal: AbortSignal) => sleep(millis, undefined, { signal }),
          };
          const keeper = new QueueKeeper(site, queue, this.#closing.signal);
          kept.push(keeper.run(resolve).catch(reject));
        }),
    );
    this.#kept = Promise.all(kept);
    await Promise.all(started);
  }

  /** From here on no worker is replaced, and one that is stuck in its handler is ended after a while. */
  close(): void {
    this.#closing.abort();
    // Whoever has not begun to serve never will.
    const why = new Error('the ports close');
    this.#end(why, ({ queue, worker }) => revokeLease(this.#memory, queue, worker));
    this.#grace ??= setTimeout(() => this.#end(new Error('its handler does not return')), GRACE_MILLIS);
  }

  /** Ends a worker whose handler does not return; another follows. */
  endStuck(queue: number): void {
    this.#end(new Error('its handler does not return'), (life) => life.queue === queue && life.polls);
  }

  /** After the stop word is set: waits until all have returned. */
  async stop(): Promise<void> {
    this.close();
    await this.#kept;
    clearTimeout(this.#grace);
    await this.#pool.destroy();
  }

  /** Starts a thread for the queue; it serves once it is granted the lease. */
  #launch(queue: number, fallback: boolean): Life {
    const { words, workers } = this.#memory;
    // Numbers go up also if another coordinator gave out the last ones.
    const last = Math.abs(Atomics.load(words, workers[queue]!.at('lease')));
    const worker = Math.max(this.#worker, last) + 1;
    this.#worker = worker;
    const { port1: reports, port2 } = new MessageChannel();
    const [ready, handlerLoaded] = [newLatch(), newLatch()];
    const file = workerFile('queue').href;
    let loaded: (whether: boolean) => void = () => {};
    let failed: PlainError | undefined;
    const hear = (report: QueueReport): void => {
      if (report.kind === 'loaded') loaded(true);
      else if (report.kind === 'failed') failed = report.error;
      else if (report.kind === 'started') {
        life.polls = true;
        const state = fallback ? 'fallback' : 'started';
        this.#events.worker({ queue, state });
      } else {
        const detail = `queue ${queue}: ${report.message} (${report.times} so far)`;
        this.#events.error({ code: 'ERR_HANDLER_THREW', device: this.#settings.handler, detail });
      }
    };
    reports.on('message', hear);
    const abort = new AbortController();
    const { signal } = abort;
    const live = async (): Promise<Error | undefined> => {
      const context = { shared: this.#memory.shared, settings: this.#settings };
      const task: QueueTask = { ...context, queue, worker, fallback, reports: port2, ready, handlerLoaded };
      try {
        return await this.#pool.run(task, { filename: file, transferList: [port2], signal });
      } catch (error) {
        // What it said last may still be on its way.
        for (
          let last = receiveMessageOnPort(reports);
          last !== undefined;
          last = receiveMessageOnPort(reports)
        ) {
          hear(last.message as QueueReport);
        }
        if (failed !== undefined) return TwinpathError.from(failed);
        return (signal.reason ?? error) as Error;
      } finally {
        this.#lives.delete(life);
        lift(ready);
        lift(handlerLoaded);
        reports.close();
        loaded(false);
      }
    };
    const life: Life = {
      ...{ queue, worker, fallback, polls: false },
      end: async (reason) => {
        await lifted(ready, READY_MILLIS);
        await lifted(handlerLoaded, HANDLER_MILLIS);
        abort.abort(reason);
      },
      loaded: new Promise((resolve) => {
        loaded = resolve;
      }),
      ended: Promise.resolve().then(live),
    };
    this.#lives.set(life, abort);
    return life;
  }

  #end(reason: Error, which: (life: Life) => boolean = () => true): void {
    for (const life of this.#lives.keys()) if (which(life)) void life.end(reason);
  }
}

/** Thread entries lie in workers/, beside src/, before and after the build. */
export function workerFile(name: string): URL {
  const built = import.meta.url.endsWith('.js');
  return new URL(`file://${packageRoot}${built ? '/dist' : ''}/workers/${name}.${built ? 'js' : 'ts'}`);
}
