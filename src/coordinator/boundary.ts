/**
 * Where exceptions of the coordinator's own doings end: whatever it starts from a timer, a readiness callback, a message
 * or a promise runs inside {@link Boundary.guard}. One failed system call must not end the thread that answers for the
 * machine's interface.
 *
 * What failed is done again: the coordinator looks at everything it watches twice a second anyway.
 */
import { type PlainError, plain } from './messages.ts';

export class Boundary {
  readonly #report: (error: PlainError) => void;
  /** How often each failure has been seen. */
  readonly #seen = new Map<string, number>();

  constructor(report: (error: PlainError) => void) {
    this.#report = report;
  }

  /** Runs `work`. A failure is reported the first time, the second, the fourth, the eighth, and so on. */
  guard(what: string, work: () => void | Promise<void>): void {
    try {
      work()?.catch((error: unknown) => this.failed(what, error));
    } catch (error) {
      this.failed(what, error);
    }
  }

  failed(what: string, error: unknown): void {
    const failure = plain(error);
    const key = `${what} ${failure.code} ${failure.syscall ?? ''} ${failure.errno ?? ''}`;
    const times = (this.#seen.get(key) ?? 0) + 1;
    this.#seen.set(key, times);
    if ((times & (times - 1)) !== 0) return;
    const detail = [what, failure.detail, times > 1 ? `${times} times so far` : undefined];
    this.#report({ ...failure, detail: detail.filter((part) => part !== undefined).join(': ') });
  }
}
