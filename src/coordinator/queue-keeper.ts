/**
 * Sees that one queue has a worker, for as long as the ports are open.
 *
 * A worker that died is replaced: at once when that was the first time in a while, and after ever longer pauses when it
 * was not. A replacement may fail to load, or never come to an end of it. So that nothing waits for it, the queue is given
 * up when that takes too long: a fallback worker serves it, a thread that runs none of the application's code. It carries
 * out orders, answers audits and empties the queue's rings; what it finds there it hands over to the other queues, to
 * which the redirection table gives this one's flows. Where no queue has a worker with the handler, packets go to the
 * machine's own stack, and that one's to the network, as if there were no port.
 *
 * Meanwhile a worker with the handler is tried again and again. Once one is loaded, the fallback leaves, and the queue has
 * its flows back. Supervisor's thread only.
 */
import { endLease, grantLease, revokeLease } from '../datapath/lease.ts';
import { TwinpathError } from '../errors.ts';
import { ringDoorbell } from '../kernel/doorbell.ts';
import { loadShim } from '../kernel/shim.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import type { Settings } from '../options.ts';
import { startFailure } from '../start-failure.ts';
import type { PlainError, WorkerNews } from './messages.ts';

export interface WorkerEvents {
  worker(news: WorkerNews): void;
  error(error: PlainError): void;
  /** No worker with the handler serves the queue for now, but one without it. */
  gaveUp(queue: number): void;
  /** One serves it again. */
  restored(queue: number): void;
  /** The queue's worker is gone and, since the ports are closing, none will follow. */
  left(queue: number): void;
}

/** A worker thread, from its task's start to its end. */
export interface Life {
  readonly queue: number;
  readonly worker: number;
  readonly fallback: boolean;
  /** Resolves once its handler is loaded: true; or the thread has ended: false. */
  readonly loaded: Promise<boolean>;
  /** Why it ended; undefined if it was told to, since the ports close. */
  readonly ended: Promise<Error | undefined>;
  /** Ends the thread, at once or as soon as it may be ended; `ended` resolves with the reason. */
  readonly end: (reason: Error) => void;
  /** Whether it serves the queue. */
  polls: boolean;
}

interface Site {
  readonly memory: Memory;
  readonly settings: Settings;
  readonly events: WorkerEvents;
  /** Starts a thread for this queue. */
  launch(fallback: boolean): Life;
  /** Resolves after that time, or rejects when the ports close. */
  pause(millis: number, closing: AbortSignal): Promise<void>;
}

/** Workers in a row that died before the first of the queue polled: then the port cannot be opened. */
const HOPELESS = 5;
/** Pauses after so many deaths in a row; the last one repeats. */
const PAUSES = [0, 0, 50, 100, 250, 500, 1000, 2000, 5000];
/** From this pause on the queue is given up; and after a module could not be loaded, which will not be otherwise soon. */
const LONG_PAUSE = 1_000;
/** A worker that has served for so long has nothing to do with the deaths before it. */
const RECOVERED_NANOS = 10e9;
/** How long a queue waits for a replacement to load before it is given up. */
const WAITS_MILLIS = 5_000;

export class QueueKeeper {
  readonly #site: Site;
  readonly #queue: number;
  readonly #closing: AbortSignal;
  /** The fallback worker, from its start to its end. */
  #fallback: Life | undefined;
  /** Whether the queue is given up; and what keeps a fallback worker there then. */
  #givenUp = false;
  #keeping: Promise<void> = Promise.resolve();
  #served = false;
  #deaths = 0;
  /** The last error that was told of, so that a queue that keeps failing tells each reason once. */
  #told = '';

  constructor(site: Site, queue: number, closing: AbortSignal) {
    this.#site = site;
    this.#queue = queue;
    this.#closing = closing;
  }

  /**
   * Until the ports close.
   *
   * @param started called when a worker with the handler has begun to serve
   * @throws whatever kept the first from it
   */
  async run(started: () => void): Promise<void> {
    const { memory, events } = this.#site;
    while (!this.#closing.aborted) {
      const life = this.#site.launch(false);
      if (!this.#givenUp) grantLease(memory, this.#queue, life.worker);
      if (await this.#loads(life)) {
        if (this.#givenUp) {
          await this.#restore();
          if (this.#closing.aborted) break;
          grantLease(memory, this.#queue, life.worker);
        }
        started();
      }
      const began = nowNanos();
      const reason = await life.ended;
      if (reason === undefined) return;
      if (this.#closing.aborted) {
        if (life.polls) events.worker({ queue: this.#queue, state: 'died', detail: reason.message });
        break;
      }
      if (life.polls && nowNanos() - began > RECOVERED_NANOS) {
        this.#deaths = 0;
        this.#told = '';
      }
      const pause = this.#failed(life, reason);
      if (pause >= LONG_PAUSE) this.#giveUp(reason);
      if (pause > 0) await this.#pause(pause);
    }
    await this.#keeping;
    events.left(this.#queue);
  }

  /** Tells why a worker ended, and answers how long the next one has to wait, in ms. @throws before the first served */
  #failed(life: Life, reason: Error): number {
    const { events } = this.#site;
    this.#served ||= life.polls;
    this.#deaths++;
    const known = reason instanceof TwinpathError;
    if (life.polls || !known) events.worker({ queue: this.#queue, state: 'died', detail: reason.message });
    // What a handler's module throws it will throw again.
    if (known) this.#deaths = Math.max(this.#deaths, PAUSES.indexOf(LONG_PAUSE) + 1);
    const pause = PAUSES[Math.min(this.#deaths, PAUSES.length) - 1]!;
    if (!known && !(this.#served ? pause >= LONG_PAUSE : this.#deaths >= HOPELESS)) return pause;
    const error = known
      ? reason
      : (startFailure(reason) ??
        new TwinpathError('ERR_WORKER', { detail: `queue ${this.#queue}: ${reason.message}` }));
    if (!this.#served) throw error;
    if (this.#told !== error.message) events.error(error.toJSON());
    this.#told = error.message;
    return pause;
  }

  /** Whether the worker's handler loads in time. The queue is given up if that takes long, and it waits for its turn. */
  async #loads(life: Life): Promise<boolean> {
    const { settings } = this.#site;
    const impatient = setTimeout(() => {
      if (!this.#served || this.#givenUp || this.#closing.aborted) return;
      if (revokeLease(this.#site.memory, this.#queue, life.worker)) {
        this.#giveUp(new Error(`no worker has loaded its handler within ${WAITS_MILLIS} ms`));
      }
    }, WAITS_MILLIS);
    const limit = setTimeout(() => {
      // If it has the lease, it has loaded, and only the news of it is not here yet.
      if (!revokeLease(this.#site.memory, this.#queue, life.worker)) return;
      life.end(
        new TwinpathError('ERR_HANDLER', {
          device: settings.handler,
          detail: `its module or its create() has not come to an end within ${settings.loadMillis} ms`,
          hint: 'Look for an await, or a loop, that never ends; or raise loadMillis.',
        }),
      );
    }, settings.loadMillis);
    try {
      return await life.loaded;
    } finally {
      clearTimeout(impatient);
      clearTimeout(limit);
    }
  }

  #giveUp(reason: Error): void {
    if (this.#givenUp || !this.#served) return;
    this.#givenUp = true;
    this.#site.events.gaveUp(this.#queue);
    this.#keeping = this.#keepFallback(reason);
  }

  /** Keeps a fallback worker at the queue, until it is restored or the ports close. It runs no code that could end it. */
  async #keepFallback(why: Error): Promise<void> {
    const { memory, events } = this.#site;
    while (this.#givenUp && !this.#closing.aborted) {
      const life = this.#site.launch(true);
      this.#fallback = life;
      grantLease(memory, this.#queue, life.worker);
      const reason = await life.ended;
      this.#fallback = undefined;
      if (reason === undefined || !this.#givenUp || this.#closing.aborted) return;
      const detail = `queue ${this.#queue}: ${why.message}; and its fallback: ${reason.message}`;
      if (this.#told !== detail) events.error(new TwinpathError('ERR_WORKER', { detail }).toJSON());
      this.#told = detail;
      await this.#pause(LONG_PAUSE);
    }
  }

  /** Shorter when the ports close. */
  #pause(millis: number): Promise<void> {
    return this.#site.pause(millis, this.#closing).catch(() => {});
  }

  /** The fallback worker leaves, and its thread ends: an io_uring of it is done with. */
  async #restore(): Promise<void> {
    const { memory, events } = this.#site;
    this.#givenUp = false;
    const fallback = this.#fallback;
    if (fallback !== undefined) {
      // NB: revoked if it has not begun, else it leaves at the end of its round.
      if (revokeLease(memory, this.#queue, fallback.worker)) fallback.end(new Error('not needed'));
      endLease(memory, this.#queue);
      ringDoorbell(loadShim(), memory, this.#queue);
    }
    await this.#keeping;
    if (!this.#closing.aborted) events.restored(this.#queue);
  }
}
