/**
 * Ports opened together: one memory, one coordinator, one set of workers. It carries the application's orders to the
 * supervisor of their threads and what that one reports to the ports. Belongs to the thread that opened them.
 */
import { once } from 'node:events';
import { isMainThread, Worker } from 'node:worker_threads';
import { awaitLift, newLatch } from './coordinator/latch.ts';
import type {
  GroupData,
  LinkNews,
  Order,
  PlainError,
  PortDescription,
  Report,
  WorkerNews,
} from './coordinator/messages.ts';
import { plain } from './coordinator/messages.ts';
import { workerFile } from './coordinator/queue-workers.ts';
import { closeLinks, release } from './coordinator/release.ts';
import { threadEnvironment } from './coordinator/thread-environment.ts';
import { TwinpathError } from './errors.ts';
import { closeDoorbells } from './kernel/doorbell.ts';
import { pageSize } from './kernel/page-size.ts';
import { loadShim } from './kernel/shim.ts';
import { LEDGER_FIELDS } from './memory/blocks.ts';
import { type Failover, Journal } from './memory/journal.ts';
import { Memory } from './memory/shared.ts';
import { geometryOf, type RssMode, type Settings } from './options.ts';
import { startFailure } from './start-failure.ts';

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

/** How long an exiting thread waits for a coordinator, which may be in a system call that waits for RTNL. */
const EXIT_MILLIS = 200;
/** What the exit of this process, or thread, has to tell of it: groups whose coordinator runs. */
const running = new Set<Group>();

function exiting(): void {
  for (const group of running) group.exiting();
}

export class Group {
  readonly memory: Memory;
  readonly journal: Journal;
  readonly rss: RssMode;
  readonly #supervisor: Worker;
  readonly #settings: Settings;
  readonly #members: Member[] = [];
  readonly #early: Report[] = [];
  readonly #audits = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #nextAudit = 1;
  #closed: Promise<void> | undefined;
  #ended = false;
  /** Whether the supervisor has said that everything is closed. */
  #orderly = false;

  constructor(settings: Settings) {
    this.memory = Memory.create(geometryOf(settings, pageSize()));
    this.rss = settings.rss;
    this.journal = new Journal(this.memory);
    this.#settings = settings;
    const workerData: GroupData = { shared: this.memory.shared, settings };
    this.#supervisor = new Worker(workerFile('supervisor'), {
      ...{ workerData, name: 'twinpath supervisor', env: threadEnvironment() },
    });
    if (running.size === 0) process.on('exit', exiting);
    running.add(this);
  }

  /**
   * Waits until the ports are open.
   *
   * @returns a description of each; whoever is to hear of a port joins at once, in the same order
   * @throws TwinpathError, after everything was undone
   */
  async ready(): Promise<PortDescription[]> {
    const worker = this.#supervisor;
    let reason = 'it ended by itself';
    let failure: TwinpathError | undefined;
    worker.on('error', (error) => {
      reason = error.message;
      failure ??= startFailure(error);
    });
    const descriptions = await new Promise<PortDescription[]>((resolve, reject) => {
      worker.on('exit', () => {
        this.#exited(reason);
        reject(failure ?? new TwinpathError('ERR_WORKER', { detail: `the supervisor ended: ${reason}` }));
      });
      worker.on('message', (report: Report) => {
        if (report.kind === 'ready') resolve(report.ports);
        else if (report.kind === 'failed') {
          this.#orderly = true;
          failure = TwinpathError.from(report.error); // told when its thread has ended: then nothing is left
        } else if (this.#members.length === 0 || this.#early.length > 0) this.#early.push(report);
        else this.#hear(report);
      });
    });
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
    this.#supervisor.postMessage(order);
  }

  /** Before the process ends all threads: waits a moment until the coordinator's may be. */
  exiting(): void {
    const done = newLatch();
    this.#supervisor.postMessage({ kind: 'exit', done } satisfies Order);
    awaitLift(done, EXIT_MILLIS);
    // A process takes its descriptors along, a thread does not.
    if (!isMainThread) this.#releaseAll();
  }

  async audit(): Promise<FrameLedger[]> {
    const id = this.#nextAudit++;
    await new Promise<void>((resolve, reject) => {
      this.order({ kind: 'audit', id });
      this.#audits.set(id, { resolve, reject });
    });
    const { words, workers } = this.memory;
    return workers.map((worker) => {
      const at = worker.at('ledger');
      return Object.fromEntries(LEDGER_FIELDS.map((field, i) => [field, words[at + i]!])) as FrameLedger;
    });
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      if (this.#ended) return;
      const exited = once(this.#supervisor, 'exit');
      this.#supervisor.postMessage({ kind: 'close' } satisfies Order);
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
      case 'closed':
        this.#orderly = true;
        if (report.error !== undefined) this.#fail(report.error);
        return;
      default:
    }
  }

  #fail(plain: PlainError): void {
    const error = TwinpathError.from(plain);
    for (const member of this.#members) member.error(error);
  }

  /** The supervisor's thread has ended, and all others with it. If it had not closed everything, this does. */
  #exited(reason: string): void {
    for (const report of this.#early.splice(0)) this.#hear(report);
    if (!this.#orderly) {
      this.#fail({ code: 'ERR_WORKER', detail: `the supervisor died, and the ports are closed: ${reason}` });
      this.#releaseAll();
    }
    this.#end();
  }

  /** Gives everything back without a coordinator: the threads have ended, or are about to. */
  #releaseAll(): void {
    const shim = loadShim();
    closeLinks(shim, this.memory);
    this.memory.control.stopAll();
    const report = (error: TwinpathError): void => this.#fail(error.toJSON());
    const place = { shim, memory: this.memory, settings: this.#settings, report };
    for (const error of release(place)) this.#fail(plain(error));
    closeDoorbells(shim, this.memory);
  }

  /** The supervisor's thread has ended. */
  #gone(): void {
    running.delete(this);
    if (running.size === 0) process.off('exit', exiting);
  }

  #end(): void {
    this.#ended = true;
    this.#gone();
    for (const { reject } of this.#audits.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
    this.#audits.clear();
    for (const member of this.#members) member.ended();
  }
}
