/**
 * Other options for handlers that run. All workers of a handler take them, or none does: first each is asked, and gets ready what it
 * needs; then, if all have agreed, each puts them in place between two bursts. Changes are carried out one after the other, and the
 * workers are asked one after the other: what they get ready may take long, and meanwhile a queue stands still.
 *
 * A worker that dies meanwhile refuses, since its handler may be why. Once it is decided, a worker that dies, or cannot put them in
 * place, is replaced by one that begins with them; so does one that was loading. A queue without the handler has no say.
 *
 * Supervisor's thread only. A failover does not wait for it: the workers answer by messages.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { TwinpathError } from '../errors.ts';
import type { Options, OptionsMail } from '../mailbox/mail.ts';
import type { HandlerThread, ThreadAnswer } from './queue-workers.ts';

/** What it needs of the workers. */
export interface SteeredWorkers {
  /** Threads with the handlers, loading ones too, but no fallbacks. */
  readonly handlerThreads: readonly HandlerThread[];
  /** Whether the ports close. */
  readonly closes: boolean;
  optionsOf(handler: number): Options;
  /** What threads that are started from now on begin with. */
  setOptions(handler: number, options: Options): void;
}

/** How long a change waits for a worker with the handler: a dead one is being replaced. */
const WAIT_MILLIS = 5_000;
const STEP_MILLIS = 20;

export class HandlerChanges {
  readonly #workers: SteeredWorkers;
  #last: Promise<unknown> = Promise.resolve();
  #next = 1;

  constructor(workers: SteeredWorkers) {
    this.#workers = workers;
  }

  /**
   * Changes options of a handler, by its position in `Settings.handlers`: those that are named; null takes one away.
   *
   * @returns all options then
   * @throws ERR_HANDLER_FIXED, ERR_HANDLER_REFUSED or what the handler has thrown: all workers have the options before.
   *   ERR_PORT_CLOSED
   */
  change(handler: number, change: Options): Promise<Options> {
    const done = this.#last.then(() => this.#carryOut(handler, change));
    this.#last = done.catch(() => {});
    return done;
  }

  async #carryOut(handler: number, change: Options): Promise<Options> {
    const workers = this.#workers;
    const options = mergedOptions(workers.optionsOf(handler), change);
    const id = this.#next++;
    const asked = await this.#serving();
    const prepare: OptionsMail = { kind: 'prepare', id, handler, options };
    const refusal = await this.#refusal(asked, prepare);
    if (refusal !== undefined) {
      for (const thread of asked) thread.tell({ kind: 'abandon', id, handler });
      throw refusal;
    }
    workers.setOptions(handler, options);
    // NB: in the same turn as the line above: each thread begins with these options or is told them.
    const told = workers.handlerThreads.map((thread) => {
      const isReady = asked.includes(thread);
      const answer = thread.ask(
        isReady ? { kind: 'apply', id, handler } : { kind: 'replace', id, handler, options },
      );
      // One that does not serve yet takes it before its first packet.
      return isReady || thread.serves ? answer : undefined;
    });
    await Promise.all(told);
    return options;
  }

  /** Asks one thread after the other, until one refuses. */
  async #refusal(
    threads: readonly HandlerThread[],
    prepare: OptionsMail,
  ): Promise<TwinpathError | undefined> {
    const workers = this.#workers;
    for (const thread of threads) {
      // One that has ended while others were asked would never answer.
      const answer: ThreadAnswer = workers.handlerThreads.includes(thread)
        ? await thread.ask(prepare)
        : { kind: 'ended', reason: new Error('while others were asked') };
      if (workers.closes) return new TwinpathError('ERR_PORT_CLOSED');
      const refusal = refusalOf(thread.queue, answer);
      if (refusal !== undefined) return refusal;
    }
    return undefined;
  }

  /** The threads that serve; waits for one if none does. @throws ERR_TIMEOUT */
  async #serving(): Promise<readonly HandlerThread[]> {
    for (let waited = 0; waited < WAIT_MILLIS; waited += STEP_MILLIS) {
      if (this.#workers.closes) throw new TwinpathError('ERR_PORT_CLOSED');
      const serving = this.#workers.handlerThreads.filter(({ serves }) => serves);
      if (serving.length > 0) return serving;
      await sleep(STEP_MILLIS);
    }
    const detail = `no worker has run the handler for ${WAIT_MILLIS} ms, so none can be asked`;
    throw new TwinpathError('ERR_TIMEOUT', { detail });
  }
}

/** The options after a change. */
export function mergedOptions(before: Options, change: Options): Options {
  const all = Object.entries({ ...before, ...change });
  return Object.fromEntries(all.filter(([name, value]) => !(Object.hasOwn(change, name) && value === null)));
}

function refusalOf(queue: number, answer: ThreadAnswer): TwinpathError | undefined {
  if (answer.kind === 'ended') {
    const detail = `the worker of queue ${queue} ended before it had agreed: ${answer.reason.message}`;
    return new TwinpathError('ERR_HANDLER_REFUSED', { detail });
  }
  return answer.error === undefined ? undefined : TwinpathError.from(answer.error);
}
