/**
 * Whether a port does its work: every queue transmits by a path, and each has a worker with the handler. Belongs to the thread
 * that opened the port.
 */
import type { Port } from '../port.ts';

export class PortHealth {
  readonly #port: Port;
  /** Queues without a worker that has the handler, and why. */
  readonly #ill = new Map<number, string>();
  /** What ends this machine soon, by its name; a machine that is paused for seconds is as well as others. */
  readonly #ending = new Map<string, string>();
  #closed = false;
  #draining = false;

  constructor(port: Port) {
    this.#port = port;
    port.on('worker', ({ queue, state }) => {
      if (state === 'started') this.#ill.delete(queue);
      else this.#ill.set(queue, state === 'died' ? 'its worker died' : 'its worker has no handler');
    });
    port.on('maintenance', ({ id, kind, state, notBefore }) => {
      if (state === 'over') this.#ending.delete(id);
      else if (kind !== 'Freeze') {
        const time = notBefore === undefined ? 'now' : `not before ${new Date(notBefore).toISOString()}`;
        this.#ending.set(id, `the platform ends this machine, ${time} (${kind})`);
      }
    });
    port.once('close', () => {
      this.#closed = true;
    });
  }

  /**
   * From now on the port is reported as unwell although it does its work: those who ask send new flows elsewhere, and the port
   * can be closed when they have.
   */
  drain(): void {
    this.#draining = true;
  }

  /** What is wrong, in sentences without a full stop; empty if nothing is. */
  problems(): string[] {
    const { device } = this.#port;
    if (this.#closed) return [`${device}: the port is closed`];
    if (!this.#port.configuration.started) return [`${device}: the port is stopped`];
    if (this.#draining) return [`${device}: the port is draining`];
    const idle = this.#port.stats().queues.filter(({ owner }) => owner === 'none');
    return [
      ...idle.map(({ queue }) => `${device}: queue ${queue} has no path`),
      ...[...this.#ending.values()].map((why) => `${device}: ${why}`),
      ...[...this.#ill].map(([queue, why]) => `${device}: queue ${queue}: ${why}`),
    ];
  }
}
