/**
 * Runs the coordinator's tasks: everything that it starts from a timer, a readiness callback, a message or a promise. A
 * task's exception is reported and ends there, because one failed system call must not end the thread that keeps the
 * machine's interface.
 *
 * The coordinator repeats what failed: it checks everything twice a second anyway.
 */
import { plainError } from '../errors.ts';
import type { ReportedEvent } from '../port-events.ts';

export class TaskRunner {
  readonly #report: (event: ReportedEvent) => void;
  /** How often each failure has occurred. */
  readonly #failures = new Map<string, number>();

  constructor(report: (event: ReportedEvent) => void) {
    this.#report = report;
  }

  /** Runs a task. A failure is reported when it occurs the first time, the second, the fourth, the eighth, and so on. */
  run(task: string, work: () => void | Promise<void>, port?: number): void {
    try {
      work()?.catch((error: unknown) => this.failed(task, error, port));
    } catch (error) {
      this.failed(task, error, port);
    }
  }

  /** @param port absent if the failure concerns all ports */
  failed(task: string, error: unknown, port?: number): void {
    const failure = plainError(error);
    const key = `${port ?? ''} ${task} ${failure.code} ${failure.syscall ?? ''} ${failure.errno ?? ''}`;
    const times = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, times);
    if ((times & (times - 1)) !== 0) return;
    const detail = [task, failure.detail, times > 1 ? `${times} times so far` : undefined];
    const event = { ...failure, detail: detail.filter((part) => part !== undefined).join(': ') };
    this.#report({ kind: 'error', event, port });
  }
}
