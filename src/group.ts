/**
 * Ports opened together: one memory, one coordinator thread, one set of workers. It carries the application's orders to the
 * coordinator and what the coordinator reports to the ports. Belongs to the thread that opened them.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type {
  CoordinatorData,
  LinkNews,
  Order,
  PlainError,
  PortDescription,
  Report,
  WorkerNews,
} from './coordinator/messages.ts';
import { workerFile } from './coordinator/queue-workers.ts';
import { threadEnvironment } from './coordinator/thread-environment.ts';
import { TwinpathError } from './errors.ts';
import { pageSize } from './kernel/page-size.ts';
import { type Failover, Journal } from './memory/journal.ts';
import { LEDGER_FIELDS, WorkerBlock } from './memory/layout.ts';
import { Memory } from './memory/shared.ts';
import { geometryOf, type RssMode, type Settings } from './options.ts';

/**
 * Where the packet frames of one worker are, counted in frames. `accounted` is the sum of the places and
 * equals `total`, always, or a frame was lost; `duplicates` is how many were found twice: 0, always.
 */
export type FrameLedger = Record<(typeof LEDGER_FIELDS)[number], number>;

/** A port, as its group tells it what has happened. */
export interface Member {
  path(failover: Failover, paths: PortDescription['paths']): void;
  link(news: LinkNews, paths: PortDescription['paths']): void;
  worker(news: WorkerNews): void;
  error(error: TwinpathError): void;
  /** Everything has been let go of. */
  ended(): void;
}

export class Group {
  readonly memory: Memory;
  readonly journal: Journal;
  readonly rss: RssMode;
  readonly #coordinator: Worker;
  readonly #members: Member[] = [];
  readonly #early: Report[] = [];
  readonly #audits = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #nextAudit = 1;
  #closed: Promise<void> | undefined;
  #ended = false;

  constructor(settings: Settings) {
    this.memory = Memory.create(geometryOf(settings, pageSize()));
    this.rss = settings.rss;
    this.journal = new Journal(this.memory);
    const workerData: CoordinatorData = { shared: this.memory.shared, settings };
    this.#coordinator = new Worker(workerFile('coordinator'), {
      ...{ workerData, name: 'twinpath coordinator', env: threadEnvironment() },
    });
  }

  /**
   * Waits until the ports are open.
   *
   * @returns a description of each; whoever is to hear of a port joins at once, in the same order
   * @throws TwinpathError, after everything was undone
   */
  async ready(): Promise<PortDescription[]> {
    const worker = this.#coordinator;
    const descriptions = await new Promise<PortDescription[]>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => reject(new TwinpathError('ERR_WORKER', { detail: 'the coordinator ended' })));
      worker.on('message', (report: Report) => {
        if (report.kind === 'ready') resolve(report.ports);
        else if (report.kind === 'failed') reject(TwinpathError.from(report.error));
        else if (this.#members.length === 0 || this.#early.length > 0) this.#early.push(report);
        else this.#hear(report);
      });
    }).catch(async (error: unknown) => {
      await worker.terminate();
      throw error;
    });
    worker.removeAllListeners('error');
    worker.removeAllListeners('exit');
    worker.on('error', (error) =>
      this.#fail({ code: 'ERR_WORKER', detail: `coordinator: ${error.message}` }),
    );
    worker.on('exit', () => this.#end());
    // What happened while the ports were opened is told once somebody can have listened.
    setImmediate(() => {
      for (const report of this.#early.splice(0)) this.#hear(report);
    });
    return descriptions;
  }

  join(member: Member): void {
    this.#members.push(member);
  }

  order(order: Order): void {
    if (this.#closed !== undefined || this.#ended) throw new TwinpathError('ERR_PORT_CLOSED');
    this.#coordinator.postMessage(order);
  }

  async audit(): Promise<FrameLedger[]> {
    const id = this.#nextAudit++;
    await new Promise<void>((resolve, reject) => {
      this.order({ kind: 'audit', id });
      this.#audits.set(id, { resolve, reject });
    });
    const { words, layout } = this.memory;
    return Array.from({ length: layout.geometry.queues }, (_, queue) => {
      const at = (layout.worker(queue) + WorkerBlock.ledger) >> 2;
      return Object.fromEntries(LEDGER_FIELDS.map((field, i) => [field, words[at + i]!])) as FrameLedger;
    });
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      if (this.#ended) return;
      const exited = once(this.#coordinator, 'exit');
      this.#coordinator.postMessage({ kind: 'close' } satisfies Order);
      await exited;
    })();
    return this.#closed;
  }

  #hear(report: Report): void {
    switch (report.kind) {
      case 'path':
        this.#members[report.failover.port]?.path(report.failover, report.paths);
        return;
      case 'link':
        this.#members[report.news.port]?.link(report.news, report.paths);
        return;
      case 'worker':
        for (const member of this.#members) member.worker(report.news);
        return;
      case 'error':
        this.#fail(report.error);
        return;
      case 'audited':
        this.#audits.get(report.id)?.resolve();
        this.#audits.delete(report.id);
        return;
      default:
    }
  }

  #fail(plain: PlainError): void {
    const error = TwinpathError.from(plain);
    for (const member of this.#members) member.error(error);
  }

  #end(): void {
    this.#ended = true;
    for (const { reject } of this.#audits.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
    this.#audits.clear();
    for (const member of this.#members) member.ended();
  }
}
