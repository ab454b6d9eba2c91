/**
 * The threads of the queue workers. Each runs one endless piscina task; a {@link QueueKeeper} for each queue starts and
 * replaces them. Supervisor's thread only: nothing here depends on the application's thread.
 *
 * A thread runs one worker and ends with it: modules that failed to load in a thread would always fail there.
 *
 * A thread is terminated only once it is ready and its handler has loaded, within limits: see completion.ts. A thread
 * without a task loads nothing, since the task names the file and not the pool.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { hasLease, revokeLease } from '../datapath/lease.ts';
import { type PlainError, TwinpathError } from '../errors.ts';
import { ringDoorbell } from '../kernel/doorbell.ts';
import { loadShim } from '../kernel/shim.ts';
import { BELL, newMailWords, type Options, type OptionsAnswer, type OptionsMail } from '../mailbox/mail.ts';
import type { SharedMemory } from '../memory/geometry.ts';
import { Memory } from '../memory/shared.ts';
import type { ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { type Completion, complete, completed, newCompletion } from './completion.ts';
import { beginLoading, endLoading } from './loading.ts';
import { QueueKeeper, type WorkerReports, type WorkerThread } from './queue-keeper.ts';
import { workerFile } from './worker-file.ts';

/** A queue worker's task. */
export interface QueueTask {
  readonly shared: SharedMemory;
  readonly settings: Settings;
  readonly queue: number;
  /** Its number: see datapath/lease.ts. */
  readonly worker: number;
  /** Whether it serves the queue without the port's handler. */
  readonly fallback: boolean;
  /** Where the worker sends its {@link QueueReport}s, and finds {@link OptionsMail}. */
  readonly reports: MessagePort;
  /** Its end of its mail: mailbox/mail.ts. A fallback worker has none. */
  readonly mail: { readonly words: Int32Array; readonly line: MessagePort } | undefined;
  /** Complete once the thread has loaded its modules and the shim: it is not terminated before. See loading.ts. */
  readonly ready: Completion;
  /** Complete once it has loaded its handler, or failed to. */
  readonly handlerLoaded: Completion;
}

/** From a worker to the supervisor, which forwards events. */
export type QueueReport =
  | ReportedEvent
  /** The handler is loaded. */
  | { kind: 'loaded' }
  | OptionsAnswer
  /** The worker ends with this error. */
  | { kind: 'failed'; error: PlainError };

/** The answer of a thread to an {@link OptionsMail}. */
export type ThreadAnswer = OptionsAnswer | { readonly kind: 'ended'; readonly reason: Error };

/** A thread that has the handlers. */
export interface HandlerThread {
  readonly queue: number;
  /** Whether it serves the queue, or is about to. */
  readonly serves: boolean;
  /** Resolves with its answer, or that it has ended without one. */
  ask(mail: OptionsMail): Promise<ThreadAnswer>;
  tell(mail: OptionsMail): void;
}

/** A thread that has not loaded its modules by then never does. */
const READY_MILLIS = 30_000;
/** Nor one that has not loaded its handler by then. Node leaks the file that it is just reading. */
const HANDLER_MILLIS = 1_000;
/** How long closing waits for a handler to return before it terminates the thread. */
const CLOSE_TIMEOUT_MILLIS = 5_000;

export class QueueWorkers {
  readonly #pool: Piscina<QueueTask, undefined>;
  readonly #memory: Memory;
  #settings: Settings;
  readonly #reports: WorkerReports;
  /** In the order in which their tasks were given to the pool. */
  readonly #threads = new Map<WorkerThread, AbortController>();
  readonly #handlerThreads = new Set<HandlerThread>();
  readonly #closing = new AbortController();
  /** Resolves when all keepers have ended. */
  #ended: Promise<unknown> = Promise.resolve();
  #closeTimeout: NodeJS.Timeout | undefined;
  #worker = 0;

  constructor(shared: SharedMemory, settings: Settings, reports: WorkerReports) {
    this.#memory = Memory.attach(shared);
    this.#settings = settings;
    this.#reports = reports;
    const { queues } = settings;
    this.#pool = new Piscina({
      minThreads: queues,
      maxThreads: 2 * queues, // for each queue one that serves while another loads
      concurrentTasksPerWorker: 1,
      idleTimeout: Number.POSITIVE_INFINITY,
      recordTiming: false,
      workerHistogram: false,
    });
    // A thread that fails before it takes a task leaves a task that no thread will take: that task is aborted.
    this.#pool.on('error', (error) => {
      const waiting = [...this.#threads.values()].slice(this.#threads.size - this.#pool.queueSize);
      for (const abort of waiting) abort.abort(error);
    });
  }

  /** Resolves once every worker polls. @throws ERR_HANDLER, ERR_WORKER, and what the handler's create threw */
  async start(): Promise<void> {
    const queues = Array.from({ length: this.#settings.queues }, (_, queue) => queue);
    const keepers: Promise<void>[] = [];
    const started = queues.map(
      (queue) =>
        new Promise<void>((resolve, reject) => {
          const context = {
            memory: this.#memory,
            settings: this.#settings,
            reports: this.#reports,
            launch: (fallback: boolean) => this.#launch(queue, fallback),
            pause: (millis: number, signal: AbortSignal) => sleep(millis, undefined, { signal }),
          };
          const keeper = new QueueKeeper(context, queue, this.#closing.signal);
          keepers.push(keeper.run(resolve).catch(reject));
        }),
    );
    this.#ended = Promise.all(keepers);
    await Promise.all(started);
  }

  /** From here on no worker is replaced, and one whose handler does not return is terminated after a while. */
  close(): void {
    this.#closing.abort();
    // A worker that has not begun to serve is not needed any more.
    const why = new Error('the ports close');
    this.#end(why, ({ queue, worker }) => revokeLease(this.#memory, queue, worker));
    this.#closeTimeout ??= setTimeout(
      () => this.#end(new Error('its handler does not return')),
      CLOSE_TIMEOUT_MILLIS,
    );
  }

  /** See SteeredWorkers in handler-changes.ts. */
  get handlerThreads(): readonly HandlerThread[] {
    return [...this.#handlerThreads];
  }

  get closes(): boolean {
    return this.#closing.signal.aborted;
  }

  optionsOf(handler: number): Options {
    return this.#settings.handlers[handler]!.options;
  }

  setOptions(handler: number, options: Options): void {
    const { handlers } = this.#settings;
    this.#settings = {
      ...this.#settings,
      handlers: handlers.map((one, i) => (i === handler ? { ...one, options } : one)),
    };
  }

  /** Terminates a worker whose handler does not return; its keeper replaces it. */
  endStuck(queue: number): void {
    this.#end(new Error('its handler does not return'), (thread) => thread.queue === queue && thread.polls);
  }

  /** After the stop word is set: resolves when all workers have ended. */
  async stop(): Promise<void> {
    this.close();
    await this.#ended;
    clearTimeout(this.#closeTimeout);
    await this.#pool.destroy();
  }

  /** Starts a thread for the queue. It serves once it has been granted the lease. */
  #launch(queue: number, fallback: boolean): WorkerThread {
    const { words, workers } = this.#memory;
    // Numbers only grow, also if another supervisor of this memory used some before.
    const last = Math.abs(Atomics.load(words, workers[queue]!.at('lease')));
    const worker = Math.max(this.#worker, last) + 1;
    this.#worker = worker;
    const { port1: reports, port2 } = new MessageChannel();
    const waiting = new Map<number, (answer: ThreadAnswer) => void>();
    const mail = fallback ? undefined : this.#openMail(queue, worker, reports, waiting);
    const [ready, handlerLoaded] = [beginLoading(this.#memory), newCompletion()];
    const file = workerFile('queue').href;
    let loaded: (whether: boolean) => void = () => {};
    let failed: PlainError | undefined;
    const receive = (report: QueueReport): void => {
      if (report.kind === 'loaded') loaded(true);
      else if (report.kind === 'failed') failed = report.error;
      else if (report.kind === 'options') {
        waiting.get(report.id)?.(report);
        waiting.delete(report.id);
      } else {
        if (report.kind === 'worker') thread.polls = true; // it has started
        this.#reports.report(report);
      }
    };
    reports.on('message', receive);
    const abort = new AbortController();
    const { signal } = abort;
    const run = async (): Promise<Error | undefined> => {
      const context = { shared: this.#memory.shared, settings: this.#settings };
      const own = { queue, worker, fallback, reports: port2, ready, handlerLoaded };
      const task: QueueTask = { ...context, ...own, mail: mail?.task };
      const transferList = mail === undefined ? [port2] : [port2, mail.task.line];
      let reason = new Error('the ports close');
      try {
        return await this.#pool.run(task, { filename: file, transferList, signal });
      } catch (error) {
        reason = (signal.reason ?? error) as Error;
        // Its last reports may not have been received yet.
        for (
          let last = receiveMessageOnPort(reports);
          last !== undefined;
          last = receiveMessageOnPort(reports)
        ) {
          receive(last.message as QueueReport);
        }
        if (failed !== undefined) return TwinpathError.from(failed);
        return reason;
      } finally {
        this.#threads.delete(thread);
        if (mail !== undefined) this.#handlerThreads.delete(mail.thread);
        for (const answer of waiting.values()) answer({ kind: 'ended', reason });
        endLoading(this.#memory, ready);
        complete(handlerLoaded);
        reports.close();
        mail?.task.line.close(); // if no thread has taken it: otherwise it does nothing
        loaded(false);
      }
    };
    const thread: WorkerThread = {
      queue,
      worker,
      fallback,
      polls: false,
      end: async (reason) => {
        await completed(ready, READY_MILLIS);
        await completed(handlerLoaded, HANDLER_MILLIS);
        abort.abort(reason);
      },
      loaded: new Promise((resolve) => {
        loaded = resolve;
      }),
      ended: Promise.resolve().then(run),
    };
    this.#threads.set(thread, abort);
    return thread;
  }

  /** Gives the application its end of a line to the thread that is about to start. */
  #openMail(
    queue: number,
    worker: number,
    control: MessagePort,
    waiting: Map<number, (answer: ThreadAnswer) => void>,
  ): { readonly thread: HandlerThread; readonly task: NonNullable<QueueTask['mail']> } {
    const memory = this.#memory;
    const words = newMailWords();
    const { port1, port2: line } = new MessageChannel();
    this.#reports.line({ queue, line: port1, words });
    const tell = (mail: OptionsMail): void => {
      control.postMessage(mail);
      Atomics.add(words, BELL, 1);
      ringDoorbell(loadShim(), memory, queue);
    };
    const thread: HandlerThread = {
      queue,
      get serves() {
        return hasLease(memory, queue, worker);
      },
      ask: (mail) =>
        new Promise((resolve) => {
          waiting.set(mail.id, resolve);
          tell(mail);
        }),
      tell,
    };
    this.#handlerThreads.add(thread);
    return { thread, task: { words, line } };
  }

  #end(reason: Error, which: (thread: WorkerThread) => boolean = () => true): void {
    for (const thread of this.#threads.keys()) if (which(thread)) void thread.end(reason);
  }
}
