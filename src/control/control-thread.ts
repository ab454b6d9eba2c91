/**
 * The thread of a control socket, as the application's thread sees it. It is a thread of its own, so that a port can be attached
 * to while the application is busy, and so that no client delays a failover. Belongs to the thread that opened the ports.
 */
import { rmSync } from 'node:fs';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { startLoading } from '../coordinator/loading.ts';
import type { GroupData, PortDescription } from '../coordinator/messages.ts';
import { threadEnvironment } from '../coordinator/thread-environment.ts';
import { workerFile } from '../coordinator/worker-file.ts';
import { type PlainError, TwinpathError } from '../errors.ts';
import { endCaptureOrders } from '../memory/capture-orders.ts';
import type { Memory } from '../memory/shared.ts';

/** `workerData` of the control thread. */
export interface ControlData extends GroupData {
  readonly ports: readonly PortDescription[];
  /** To the supervisor: commands one way, reports the other. */
  readonly line: MessagePort;
}

/** From the control thread to the application's. */
export type ControlReport =
  | { readonly kind: 'listening'; readonly file: string }
  | { readonly kind: 'failed'; readonly error: PlainError };

export class ControlThread {
  /** Path of the socket, once it listens. */
  file: string | undefined;
  /** Resolves when the socket listens, or never will. */
  readonly settled: Promise<void>;
  /** Resolves when the thread has ended. */
  readonly ended: Promise<void>;
  readonly #worker: Worker;

  /**
   * @param attach gives the supervisor its end of the line
   * @param failed reports why there is no socket
   */
  constructor(
    memory: Memory,
    data: Pick<ControlData, 'settings' | 'ports'>,
    attach: (line: MessagePort) => void,
    failed: (error: TwinpathError) => void,
  ) {
    const { port1, port2 } = new MessageChannel();
    attach(port2);
    this.#worker = startLoading(memory, (loaded) => {
      const workerData: ControlData = { ...data, shared: memory.shared, loaded, line: port1 };
      return new Worker(workerFile('control'), {
        ...{ workerData, transferList: [port1] },
        name: 'twinpath control',
        env: threadEnvironment(),
      });
    });
    this.#worker.on('message', (report: ControlReport) => {
      if (report.kind === 'listening') this.file = report.file;
      else failed(TwinpathError.from(report.error));
    });
    this.#worker.on('error', (error) => failed(new TwinpathError('ERR_CONTROL', { detail: error.message })));
    this.ended = new Promise((resolve) => this.#worker.once('exit', () => resolve()));
    const reported = new Promise<void>((resolve) => this.#worker.once('message', () => resolve()));
    this.settled = Promise.race([reported, this.ended]);
    // If it died, workers would copy packets that nobody reads.
    void this.ended.then(() => endCaptureOrders(memory));
  }

  /** The process exits: removes the socket. */
  exiting(): void {
    try {
      if (this.file !== undefined) rmSync(this.file, { force: true });
    } catch {} // this process may have become another user: the next port removes the socket
  }
}
