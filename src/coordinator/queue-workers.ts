/**
 * The queue worker threads: one endless piscina task each. A worker that dies is replaced by a new one, which
 * goes on from the shared memory. Coordinator thread only; nothing here depends on the application's.
 */
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

export type QueueReport =
  | { kind: 'started' }
  | { kind: 'failed'; error: PlainError }
  | { kind: 'handler'; message: string; times: number };

export interface WorkerEvents {
  worker(news: WorkerNews): void;
  error(error: PlainError): void;
}

/** Deaths in a row, without having handled a single round between them, after which a port gives up. */
const HOPELESS = 5;

export class QueueWorkers {
  readonly #pool: Piscina<QueueTask, void>;
  readonly #shared: SharedMemory;
  readonly #settings: Settings;
  readonly #macs: readonly string[];
  readonly #events: WorkerEvents;
  readonly #tasks: Promise<void>[] = [];
  readonly #kill = new AbortController();
  #stopping = false;

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
    this.#pool.on('error', (error) => events.error(plain(error)));
  }

  /** Resolves once every worker polls. @throws ERR_HANDLER, ERR_WORKER */
  async start(): Promise<void> {
    const started = Array.from({ length: this.#settings.queues }, (_, queue) => this.#run(queue));
    await Promise.all(started);
  }

  /** After the stop word is set: waits until all have returned. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const grace = setTimeout(() => this.#kill.abort(), 5_000);
    await Promise.allSettled(this.#tasks);
    clearTimeout(grace);
    await this.#pool.destroy();
  }

  /** Starts one worker; resolves when it polls, rejects if it never will. */
  #run(queue: number, failures = 0): Promise<void> {
    const { port1: reports, port2 } = new MessageChannel();
    const task: QueueTask = {
      shared: this.#shared,
      settings: this.#settings,
      queue,
      macs: this.#macs,
      reports: port2,
    };
    let polls = false;
    return new Promise((resolve, reject) => {
      reports.on('message', (report: QueueReport) => {
        if (report.kind === 'started') {
          polls = true;
          this.#events.worker({ queue, state: 'started' });
          resolve();
        } else if (report.kind === 'failed') reject(TwinpathError.from(report.error));
        else {
          const detail = `queue ${queue}: ${report.message} (${report.times} so far)`;
          this.#events.error({ code: 'ERR_HANDLER_THREW', device: this.#settings.handler, detail });
        }
      });
      const running = this.#pool.run(task, { transferList: [port2], signal: this.#kill.signal }).then(
        () => reports.close(),
        (error: Error) => {
          reports.close();
          if (this.#stopping) return;
          this.#events.worker({ queue, state: 'died', detail: error.message });
          const again = polls ? 0 : failures + 1;
          if (again < HOPELESS) return this.#run(queue, again).then(resolve, reject);
          const hopeless = new TwinpathError('ERR_WORKER', {
            device: `queue ${queue}`,
            detail: `${HOPELESS} workers died before they could poll, the last one of: ${error.message}`,
          });
          this.#events.error(hopeless.toJSON());
          reject(hopeless);
        },
      );
      this.#tasks[queue] = running.catch(reject);
    });
  }
}

/** Thread entries lie in workers/, beside src/, before and after the build. */
export function workerFile(name: string): URL {
  const built = import.meta.url.endsWith('.js');
  return new URL(`file://${packageRoot}${built ? '/dist' : ''}/workers/${name}.${built ? 'js' : 'ts'}`);
}

export function plain(error: unknown): PlainError {
  if (error instanceof TwinpathError) return error.toJSON();
  return { code: 'ERR_WORKER', detail: error instanceof Error ? error.message : String(error) };
}
