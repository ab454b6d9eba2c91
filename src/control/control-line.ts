/** The control thread: the socket on one side, the supervisor on the other. */
import type { MessagePort } from 'node:worker_threads';
import type { Command, HandlerQuestion, Question, Report } from '../coordinator/messages.ts';
import { plainError, TwinpathError } from '../errors.ts';
import { loadShim } from '../kernel/shim.ts';
import { Memory } from '../memory/shared.ts';
import { packageVersion } from '../package-version.ts';
import { Attendant } from './attendant.ts';
import type { ControlData, ControlReport } from './control-thread.ts';
import { PROTOCOL } from './protocol.ts';
import { ControlServer } from './server.ts';

interface Asked {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class ControlLine {
  readonly #line: MessagePort;
  readonly #attendant: Attendant;
  readonly #server: ControlServer;
  readonly #asked = new Map<number, Asked>();
  /** Of questions: the application's are positive. */
  #next = -1;
  #ended = false;

  constructor({ shared, settings, ports, line }: ControlData) {
    const shim = loadShim();
    shim.threadName('twinpath-ctl');
    this.#line = line;
    this.#attendant = new Attendant(Memory.attach(shared), settings, ports, {
      ask: (question) => this.#ask(question),
      close: () => line.postMessage({ kind: 'close' } satisfies Command),
    });
    const hello = { twinpath: packageVersion(), protocol: PROTOCOL, pid: process.pid } as const;
    this.#server = new ControlServer(shim, this.#attendant, hello);
  }

  run(report: (report: ControlReport) => void): void {
    this.#line.on('message', (reported: Report) => this.#receive(reported));
    this.#line.once('close', () => this.#end()); // the supervisor has ended
    this.#server.listen().then(
      (file) => {
        if (this.#ended) this.#server.close();
        else report({ kind: 'listening', file });
      },
      (error) => {
        report({ kind: 'failed', error: plainError(error) });
        this.#line.close();
      },
    );
  }

  #ask(question: Question | HandlerQuestion): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#next--;
      this.#asked.set(id, { resolve, reject });
      this.#line.postMessage({ kind: 'ask', id, question } satisfies Command);
    });
  }

  #receive(report: Report): void {
    switch (report.kind) {
      case 'answered': {
        const asked = this.#asked.get(report.id);
        this.#asked.delete(report.id);
        if (report.error === undefined) asked?.resolve(report.value);
        else asked?.reject(TwinpathError.from(report.error));
        return;
      }
      case 'link':
      case 'carrier':
      case 'configured':
      case 'counted':
        this.#attendant.note(report);
        return;
      default:
    }
  }

  #end(): void {
    this.#ended = true;
    for (const { reject } of this.#asked.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
    this.#asked.clear();
    setImmediate(() => this.#server.close()); // after these have been answered
  }
}
