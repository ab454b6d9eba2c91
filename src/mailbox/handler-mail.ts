/**
 * The application's end of the lines to its handlers: see mail.ts. The supervisor makes a line for each worker thread that has the
 * handlers, and the two ends are then the worker's and the application's: no other thread sees the messages. Belongs to the thread
 * that opened the ports.
 */
import { TwinpathError } from '../errors.ts';
import { ringDoorbell } from '../kernel/doorbell.ts';
import { loadShim } from '../kernel/shim.ts';
import type { Memory } from '../memory/shared.ts';
import { invalid } from '../validation.ts';
import { BELL, type LineMail, MAX_UNANSWERED, type MailLine, type MessageMail, READ } from './mail.ts';

/** Takes a message of a handler, by the handler's position in `Settings.handlers`. */
export type MessageListener = (handler: number, value: unknown, queue: number) => void;

interface Unanswered {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

interface OpenLine extends MailLine {
  readonly unanswered: Map<number, Unanswered>;
}

export class HandlerMail {
  readonly #memory: Memory;
  readonly #listener: MessageListener;
  /** By queue: of the thread that was started last. */
  readonly #lines = new Map<number, OpenLine>();
  /** All that have not ended: a worker that ends may overlap with the one that takes its place. */
  readonly #open = new Set<OpenLine>();
  #listens = false;
  #closed = false;
  #next = 1;

  constructor(memory: Memory, listener: MessageListener) {
    this.#memory = memory;
    this.#listener = listener;
  }

  /** A worker thread with the handlers is starting. */
  add(given: MailLine): void {
    const open: OpenLine = { ...given, unanswered: new Map() };
    const { queue, line } = open;
    line.on('close', () => this.#ended(open));
    line.unref();
    this.#lines.set(queue, open);
    this.#open.add(open);
    if (this.#listens) this.#listen(open);
  }

  /** From here on messages are taken: once the application can have added listeners. */
  listen(): void {
    this.#listens = true;
    for (const line of this.#open) this.#listen(line);
  }

  /**
   * Posts a message to the handler of a port, on one queue or on all. Resolves when each of them has had it.
   *
   * @throws ERR_MESSAGE: a worker has ended or has {@link MAX_UNANSWERED} messages already, or its handler has thrown or takes none;
   *   ERR_OPTION_INVALID if the value cannot be cloned; ERR_PORT_CLOSED
   */
  async post(port: number, value: unknown, queue: number | undefined): Promise<void> {
    if (this.#closed) throw new TwinpathError('ERR_PORT_CLOSED');
    const queues = queue === undefined ? [...this.#memory.workers.keys()] : [queue];
    const results = await Promise.allSettled(queues.map((one) => this.#post(port, value, one)));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** The ports have closed. */
  close(): void {
    this.#closed = true;
    for (const open of this.#open) {
      open.line.close();
      this.#ended(open);
    }
  }

  #post(port: number, value: unknown, queue: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const open = this.#lines.get(queue);
      if (open === undefined) throw ended(queue);
      const { line, words, unanswered } = open;
      if (unanswered.size >= MAX_UNANSWERED) {
        const detail = `queue ${queue} has not answered ${MAX_UNANSWERED} messages before`;
        const hint = 'Await the promises of some of them first.';
        throw new TwinpathError('ERR_MESSAGE', { detail, hint });
      }
      const id = this.#next++;
      try {
        line.postMessage({ id, port, value } satisfies MessageMail);
      } catch (error) {
        invalid('message', `it must survive a structured clone: ${(error as Error).message}`);
      }
      unanswered.set(id, { resolve, reject });
      Atomics.add(words, BELL, 1);
      ringDoorbell(loadShim(), this.#memory, queue);
    });
  }

  #listen(open: OpenLine): void {
    const { queue, line, words, unanswered } = open;
    line.on('message', (mail: LineMail) => {
      if (mail.kind === 'message') {
        Atomics.add(words, READ, 1);
        this.#listener(mail.handler, mail.value, queue);
        return;
      }
      const { id, error } = mail;
      const waiting = unanswered.get(id);
      unanswered.delete(id);
      if (error === undefined) waiting?.resolve();
      else waiting?.reject(TwinpathError.from(error));
    });
    line.unref(); // a listener refs it
  }

  #ended(open: OpenLine): void {
    const { queue, unanswered } = open;
    this.#open.delete(open);
    if (this.#lines.get(queue) === open) this.#lines.delete(queue);
    for (const { reject } of unanswered.values())
      reject(this.#closed ? new TwinpathError('ERR_PORT_CLOSED') : ended(queue));
    unanswered.clear();
  }
}

const ended = (queue: number): TwinpathError =>
  new TwinpathError('ERR_MESSAGE', {
    detail: `the worker of queue ${queue} has ended`,
    hint: 'Another one takes its place: post the message again after its "worker" event.',
  });
