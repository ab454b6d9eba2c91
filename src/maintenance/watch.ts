/**
 * Follows what the platform announces for this machine: one poll a second, of a service on this host. Belongs to the thread
 * that opened the ports; if that is busy, a notice is late. A freeze is announced a quarter of an hour before.
 */
import type { MaintenanceEvent } from '../port-events.ts';
import { Notices } from './notices.ts';
import { MetadataService } from './scheduled-events.ts';

const POLL_MILLIS = 1000;
/** After an error. */
const RETRY_MILLIS = 10_000;

/** Whom it tells. */
export interface MaintenanceListener {
  event(event: MaintenanceEvent): void;
  /** The VF is to be left, or may be used again. Called with every poll, since a coordinator may have been replaced. */
  setAside(aside: boolean): Promise<unknown>;
  /** The first time, the second, the fourth, and so on, until it works again. */
  failed(error: unknown): void;
}

export class MaintenanceWatch {
  readonly #service: MetadataService;
  readonly #notices = new Notices();
  readonly #listener: MaintenanceListener;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #aside = false;
  #failures = 0;

  /** @param base URL of the metadata service */
  constructor(base: string, listener: MaintenanceListener) {
    this.#service = new MetadataService(base);
    this.#listener = listener;
  }

  start(): void {
    void this.#poll();
  }

  close(): void {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#service.close();
  }

  async #poll(): Promise<void> {
    let pause = POLL_MILLIS;
    try {
      const news = this.#notices.update(await this.#service.events(this.#closing.signal));
      this.#failures = 0;
      const aside = this.#notices.freezes(Date.now());
      // First, because a listener may throw; and not awaited before them, because it may fail, and news come once.
      const ordered = aside || this.#aside ? this.#listener.setAside(aside) : undefined;
      try {
        for (const event of news) this.#listener.event(event);
      } finally {
        await ordered;
        this.#aside = aside;
      }
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      pause = RETRY_MILLIS;
      const times = ++this.#failures;
      if ((times & (times - 1)) === 0) this.#listener.failed(error);
    }
    if (!this.#closing.signal.aborted) this.#timer = setTimeout(() => void this.#poll(), pause).unref();
  }
}
