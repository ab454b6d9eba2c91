/** A worker's end of its mail: see mail.ts. Belongs to the worker thread. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { plainError, TwinpathError } from '../errors.ts';
import type { Burst } from '../handler/burst.ts';
import { configured } from '../handler/configured.ts';
import type { LoadedHandler } from '../handler/load-handler.ts';
import { queueCounters } from '../memory/counters.ts';
import type { Memory } from '../memory/shared.ts';
import {
  BELL,
  type LineMail,
  MAX_UNREAD,
  type MessageMail,
  type Options,
  type OptionsAnswer,
  type OptionsMail,
  READ,
} from './mail.ts';

/** The handlers of a worker, by their position in `Settings.handlers`. */
export interface MailHandlers {
  readonly urls: readonly string[];
  /** For each port the position of its handler. */
  readonly handlerOf: readonly number[];
}

export interface WorkerMailContext extends MailHandlers {
  readonly memory: Memory;
  readonly queue: number;
  readonly words: Int32Array;
  /** To the supervisor. */
  readonly control: MessagePort;
  /** To the application. */
  readonly line: MessagePort;
}

/** Calls a function of a port's handler between two bursts. @throws what it throws */
export type CallBetween = (port: number, call: (burst: Burst, port: number) => void) => void;

/** Messages that are taken at one time: packets wait meanwhile. */
const MOST = 16;

export class WorkerMail {
  readonly #context: WorkerMailContext;
  readonly #words: Int32Array;
  #handlers: readonly LoadedHandler[] = [];
  /** By handler: puts the options in place that it has agreed to. */
  readonly #prepared = new Map<number, () => void>();
  readonly #refusedAt: number[] = [];
  #rung = 0;
  #sent = 0;

  constructor(context: WorkerMailContext) {
    this.#context = context;
    this.#words = context.words;
  }

  /** Once they are loaded. */
  set handlers(handlers: readonly LoadedHandler[]) {
    this.#handlers = handlers;
  }

  /** By handler: where its refused messages are counted, with those of its first port. */
  #refused(handler: number): number {
    const { memory, queue, handlerOf } = this.#context;
    this.#refusedAt[handler] ??= queueCounters(memory, handlerOf.indexOf(handler), queue).messagesRefused;
    return this.#refusedAt[handler];
  }

  /** Whether something may have come since {@link receive}: one load, not an Atomic. What it misses, it sees the next time. */
  get waits(): boolean {
    return this.#words[BELL] !== this.#rung;
  }

  /** A handler sends the application a message. Returns false, and counts it, if the application has not read enough of them. */
  post(handler: number, value: unknown): boolean {
    if (((this.#sent - Atomics.load(this.#words, READ)) | 0) >= MAX_UNREAD) {
      this.#context.memory.doubles[this.#refused(handler)]!++;
      return false;
    }
    this.#context.line.postMessage({ kind: 'message', handler, value } satisfies LineMail);
    this.#sent = (this.#sent + 1) | 0;
    return true;
  }

  /**
   * Takes what has come, some of it if it is much.
   *
   * @throws ERR_HANDLER if options that were decided on cannot be put in place: then the worker is to end, and the next one begins
   *   with them
   */
  receive(call: CallBetween): void {
    const { control, line } = this.#context;
    const rung = Atomics.load(this.#words, BELL);
    let left = MOST;
    for (; left > 0; left--) {
      const received = receiveMessageOnPort(control);
      if (received === undefined) break;
      this.#follow(received.message as OptionsMail, call);
    }
    for (; left > 0; left--) {
      const received = receiveMessageOnPort(line);
      if (received === undefined) break;
      this.#give(received.message as MessageMail, call);
    }
    if (left > 0) this.#rung = rung;
  }

  #follow(mail: OptionsMail, call: CallBetween): void {
    const { id, kind, handler } = mail;
    const answer = (error?: TwinpathError): void => {
      const plain = error === undefined ? {} : { error: error.toJSON() };
      this.#context.control.postMessage({ kind: 'options', id, ...plain } satisfies OptionsAnswer);
    };
    if (kind === 'abandon') {
      this.#prepared.delete(handler);
      return;
    }
    if (kind === 'prepare') {
      answer(this.#prepare(handler, mail.options, call));
      return;
    }
    const refusal = kind === 'replace' ? this.#prepare(handler, mail.options, call) : undefined;
    try {
      if (refusal !== undefined) throw refusal;
      call(this.#portOf(handler), () => this.#prepared.get(handler)?.());
    } catch (error) {
      const detail = `it did not take the options that the other workers have: ${messageOf(error)}`;
      throw new TwinpathError('ERR_HANDLER', { device: this.#context.urls[handler], detail });
    }
    this.#prepared.delete(handler);
    answer();
  }

  /** Returns why the handler refuses. */
  #prepare(handler: number, options: Options, call: CallBetween): TwinpathError | undefined {
    const device = this.#context.urls[handler];
    const { configure, isWasm = false } = this.#handlers[handler]!;
    if (configure === undefined) {
      const detail = isWasm ? 'it is in WebAssembly, where options are read once' : 'it has no configure()';
      const hint = 'Open the port again with the other options.';
      return new TwinpathError('ERR_HANDLER_FIXED', { device, detail, hint });
    }
    try {
      let apply = (): void => {};
      call(this.#portOf(handler), () => {
        apply = configured(configure, options);
      });
      this.#prepared.set(handler, apply);
      return undefined;
    } catch (error) {
      if (error instanceof TwinpathError) return error;
      return new TwinpathError('ERR_HANDLER_REFUSED', { device, detail: messageOf(error) });
    }
  }

  #give({ id, port, value }: MessageMail, call: CallBetween): void {
    const { urls, handlerOf, line } = this.#context;
    const handler = handlerOf[port]!;
    const device = urls[handler];
    const { message } = this.#handlers[handler]!;
    const answer = (error?: TwinpathError): void => {
      const plain = error === undefined ? {} : { error: plainError(error) };
      line.postMessage({ kind: 'had', id, ...plain } satisfies LineMail);
    };
    if (message === undefined) {
      answer(new TwinpathError('ERR_MESSAGE', { device, detail: 'the handler has no message()' }));
      return;
    }
    try {
      call(port, (burst) => message(value, burst, port));
      answer();
    } catch (error) {
      const detail = `its message() threw: ${messageOf(error)}`;
      answer(new TwinpathError('ERR_MESSAGE', { device, detail }));
    }
  }

  #portOf(handler: number): number {
    return this.#context.handlerOf.indexOf(handler);
  }
}

/** What was thrown, in words. Anything may be thrown, also what has no words. */
function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : String(error);
  } catch {
    return 'a value that cannot be printed';
  }
}
