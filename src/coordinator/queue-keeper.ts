/**
 * Keeps a worker on one queue for as long as the ports are open.
 *
 * It replaces a worker that died: at once after the first death in a while, and after ever longer pauses if more follow. A
 * replacement may fail to load, or never finish loading. If that takes too long, the queue is given up, so that nothing
 * waits for it: a fallback worker serves it, a thread that runs none of the application's code. That worker carries out
 * orders, answers audits and empties the queue's rings. It hands the packets over to the other queues, which have this
 * queue's flows by the redirection table. If no queue has a worker with the handler, packets go to the machine's own stack,
 * and the stack's packets to the network, as if there were no port.
 *
 * Meanwhile the keeper goes on starting workers with the handler. Once one has loaded, the fallback ends, and the queue gets
 * its flows back. Supervisor's thread only.
 */
import { endLease, grantLease, revokeLease } from '../datapath/lease.ts';
import { TwinpathError } from '../errors.ts';
import { ringDoorbell } from '../kernel/doorbell.ts';
import { loadShim } from '../kernel/shim.ts';
import type { MailLine } from '../mailbox/mail.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import { errorEvent, type ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { startFailure } from '../start-failure.ts';

/** What workers and their keepers report to the supervisor. */
export interface WorkerReports {
  /** An event for the application. */
  report(event: ReportedEvent): void;
  /** The application's end of a line to a thread that is about to start, with the handlers. */
  line(line: MailLine): void;
  /** A worker without the handler serves the queue for now. */
  gaveUp(queue: number): void;
  /** A worker with the handler serves it again. */
  restored(queue: number): void;
  /** The queue's worker has ended and, since the ports are closing, is not replaced. */
  gone(queue: number): void;
}

/** The thread of one worker, from its task's start to its end. */
export interface WorkerThread {
  readonly queue: number;
  readonly worker: number;
  readonly fallback: boolean;
  /** Resolves with true once its handler is loaded, or with false when the thread has ended without that. */
  readonly loaded: Promise<boolean>;
  /** Resolves with the reason when it has ended; with undefined if it ended because the ports close. */
  readonly ended: Promise<Error | undefined>;
  /** Terminates the thread as soon as that is safe; `ended` resolves with the reason. */
  readonly end: (reason: Error) => void;
  /** Whether it serves the queue. */
  polls: boolean;
}

interface KeeperContext {
  readonly memory: Memory;
  readonly settings: Settings;
  readonly reports: WorkerReports;
  /** Starts a thread for this queue. */
  launch(fallback: boolean): WorkerThread;
  /** Resolves after that time; rejects when the ports close. */
  pause(millis: number, closing: AbortSignal): Promise<void>;
}

/** If so many workers in a row die before one has polled, the port cannot be opened. */
const MAX_START_DEATHS = 5;
/** Pauses after so many deaths in a row; the last one repeats. */
const PAUSES = [0, 0, 50, 100, 250, 500, 1000, 2000, 5000];
/** From this pause on the queue is given up. A module that could not be loaded has it at once: the next try fails as well. */
const LONG_PAUSE = 1_000;
/** After a worker has served for so long, the deaths before it no longer count. */
const RECOVERED_NANOS = 10e9;
/** A queue whose replacement loads for longer than this is given up meanwhile. */
const LOAD_WAIT_MILLIS = 5_000;

export class QueueKeeper {
  readonly #context: KeeperContext;
  readonly #queue: number;
  readonly #closing: AbortSignal;
  /** The fallback worker, from its start to its end. */
  #fallback: WorkerThread | undefined;
  /** Whether the queue is given up. */
  #givenUp = false;
  /** Resolves when no fallback worker is kept on the queue any more. */
  #fallbackEnded: Promise<void> = Promise.resolve();
  #served = false;
  #deaths = 0;
  /** The last error that was reported: a queue that keeps failing reports each reason once. */
  #reported = '';

  constructor(context: KeeperContext, queue: number, closing: AbortSignal) {
    this.#context = context;
    this.#queue = queue;
    this.#closing = closing;
  }

  /**
   * Runs until the ports close.
   *
   * @param started called when a worker with the handler has begun to serve
   * @throws the error that kept the first worker from serving
   */
  async run(started: () => void): Promise<void> {
    const { memory, reports } = this.#context;
    while (!this.#closing.aborted) {
      const thread = this.#context.launch(false);
      if (!this.#givenUp) grantLease(memory, this.#queue, thread.worker);
      if (await this.#loads(thread)) {
        if (this.#givenUp) {
          await this.#restore();
          if (this.#closing.aborted) break;
          grantLease(memory, this.#queue, thread.worker);
        }
        started();
      }
      const began = nowNanos();
      const reason = await thread.ended;
      if (reason === undefined) return;
      if (this.#closing.aborted) {
        if (thread.polls) this.#reportDeath(reason);
        break;
      }
      if (thread.polls && nowNanos() - began > RECOVERED_NANOS) {
        this.#deaths = 0;
        this.#reported = '';
      }
      const pause = this.#failed(thread, reason);
      if (pause >= LONG_PAUSE) this.#giveUp(reason);
      if (pause > 0) await this.#pause(pause);
    }
    await this.#fallbackEnded;
    reports.gone(this.#queue);
  }

  #reportDeath({ message: detail }: Error): void {
    this.#context.reports.report({ kind: 'worker', event: { queue: this.#queue, state: 'died', detail } });
  }

  /** Reports why a worker ended, and returns the pause before the next one, in ms. @throws before the first has served */
  #failed(thread: WorkerThread, reason: Error): number {
    const { reports } = this.#context;
    this.#served ||= thread.polls;
    this.#deaths++;
    const known = reason instanceof TwinpathError;
    if (thread.polls || !known) this.#reportDeath(reason);
    // A handler's module that threw will throw again.
    if (known) this.#deaths = Math.max(this.#deaths, PAUSES.indexOf(LONG_PAUSE) + 1);
    const pause = PAUSES[Math.min(this.#deaths, PAUSES.length) - 1]!;
    if (!known && !(this.#served ? pause >= LONG_PAUSE : this.#deaths >= MAX_START_DEATHS)) return pause;
    const error = known
      ? reason
      : (startFailure(reason) ??
        new TwinpathError('ERR_WORKER', { detail: `queue ${this.#queue}: ${reason.message}` }));
    if (!this.#served) throw error;
    if (this.#reported !== error.message) reports.report(errorEvent(error));
    this.#reported = error.message;
    return pause;
  }

  /** Whether the worker's handler loads in time. If that takes long, the queue is given up meanwhile. */
  async #loads(thread: WorkerThread): Promise<boolean> {
    const { settings } = this.#context;
    const giveUp = setTimeout(() => {
      if (!this.#served || this.#givenUp || this.#closing.aborted) return;
      if (revokeLease(this.#context.memory, this.#queue, thread.worker)) {
        this.#giveUp(new Error(`no worker has loaded its handler within ${LOAD_WAIT_MILLIS} ms`));
      }
    }, LOAD_WAIT_MILLIS);
    const limit = setTimeout(() => {
      // If it has the lease, it has loaded, and its message has not arrived yet.
      if (!revokeLease(this.#context.memory, this.#queue, thread.worker)) return;
      thread.end(
        new TwinpathError('ERR_HANDLER', {
          device: settings.handlers.map(({ url }) => url).join(', '),
          detail: `its module or its create() has not finished within ${settings.loadMillis} ms`,
          hint: 'Look for an await, or a loop, that never ends; or raise loadMillis.',
        }),
      );
    }, settings.loadMillis);
    try {
      return await thread.loaded;
    } finally {
      clearTimeout(giveUp);
      clearTimeout(limit);
    }
  }

  #giveUp(reason: Error): void {
    if (this.#givenUp || !this.#served) return;
    this.#givenUp = true;
    this.#context.reports.gaveUp(this.#queue);
    this.#fallbackEnded = this.#keepFallback(reason);
  }

  /** Keeps a fallback worker on the queue until it is restored or the ports close. That worker runs no code that could end it. */
  async #keepFallback(why: Error): Promise<void> {
    const { memory, reports } = this.#context;
    while (this.#givenUp && !this.#closing.aborted) {
      const thread = this.#context.launch(true);
      this.#fallback = thread;
      grantLease(memory, this.#queue, thread.worker);
      const reason = await thread.ended;
      this.#fallback = undefined;
      if (reason === undefined || !this.#givenUp || this.#closing.aborted) return;
      const detail = `queue ${this.#queue}: ${why.message}; and its fallback: ${reason.message}`;
      if (this.#reported !== detail) reports.report(errorEvent(new TwinpathError('ERR_WORKER', { detail })));
      this.#reported = detail;
      await this.#pause(LONG_PAUSE);
    }
  }

  /** Ends early when the ports close. */
  #pause(millis: number): Promise<void> {
    return this.#context.pause(millis, this.#closing).catch(() => {});
  }

  /** Ends the fallback worker, and its thread, whose io_uring ends with it. */
  async #restore(): Promise<void> {
    const { memory, reports } = this.#context;
    this.#givenUp = false;
    const fallback = this.#fallback;
    if (fallback !== undefined) {
      // NB: its lease is revoked if it has not begun; else it leaves at the end of its round.
      if (revokeLease(memory, this.#queue, fallback.worker)) fallback.end(new Error('not needed'));
      endLease(memory, this.#queue);
      ringDoorbell(loadShim(), memory, this.#queue);
    }
    await this.#fallbackEnded;
    if (!this.#closing.aborted) reports.restored(this.#queue);
  }
}
