/**
 * A worker's mail: what other threads tell its handlers, and what those tell the application.
 *
 * A busy worker never returns to its event loop, so no message arrives by itself. Each worker thread has a bell, a word that a
 * sender increments after it has posted; the worker loads it in its housekeeping, and takes the messages from the ports when it has
 * changed. Two ports: the supervisor's, with changes of options, and the line to the application, with messages. Both end with the
 * thread.
 *
 * ```
 *   bell    incremented by those who have posted something for the worker   (s)(a)
 *   read    messages of the worker that the application has read            (a)
 * ```
 */
import type { MessagePort } from 'node:worker_threads';
import type { PlainError } from '../errors.ts';
import { LINE } from '../memory/layout.ts';

/** Int32 indices, on lines of their own. */
export const BELL = 0;
export const READ = LINE / 4;

/** Messages of one worker that may wait for the application. */
export const MAX_UNREAD = 256;
/** Messages to one worker that it may not have answered. */
export const MAX_UNANSWERED = 1024;

/** The words of a worker thread's mail. Supervisor's thread. */
export const newMailWords = (): Int32Array => new Int32Array(new SharedArrayBuffer(2 * LINE));

/** The end of a line that the application has. */
export interface MailLine {
  readonly queue: number;
  readonly line: MessagePort;
  readonly words: Int32Array;
}

/** Options of a handler, by its position in `Settings.handlers`. From the supervisor to a worker. */
export type OptionsMail =
  /** Asks whether the handler takes them. */
  | { readonly kind: 'prepare'; readonly id: number; readonly handler: number; readonly options: Options }
  /** Puts in place what was prepared. */
  | { readonly kind: 'apply'; readonly id: number; readonly handler: number }
  /** Forgets it. */
  | { readonly kind: 'abandon'; readonly id: number; readonly handler: number }
  /** Both steps: for a worker that was loading with the options before, while the others agreed. */
  | { readonly kind: 'replace'; readonly id: number; readonly handler: number; readonly options: Options };

export type Options = Record<string, unknown>;

/** The worker's answer to an {@link OptionsMail}, but for 'abandon'. */
export interface OptionsAnswer {
  readonly kind: 'options';
  readonly id: number;
  /** Why the handler refuses. */
  readonly error?: PlainError;
}

/** From the application to a worker. */
export interface MessageMail {
  readonly id: number;
  readonly port: number;
  readonly value: unknown;
}

/** From a worker to the application. */
export type LineMail =
  | { readonly kind: 'message'; readonly handler: number; readonly value: unknown }
  /** The handler has had the message of that number. */
  | { readonly kind: 'had'; readonly id: number; readonly error?: PlainError };
