/**
 * Ports opened together: they share one memory, one coordinator, and one set of workers. A group sends the application's
 * commands to the supervisor of their threads, and the supervisor's events to the ports. Belongs to the thread that opened
 * them.
 */
import { once } from 'node:events';
import { isMainThread, Worker } from 'node:worker_threads';
import { ControlThread } from './control/control-thread.ts';
import { newCompletion, waitForCompletion } from './coordinator/completion.ts';
import { LOADING_MILLIS, startLoading, waitForLoading } from './coordinator/loading.ts';
import type {
  Command,
  GroupData,
  HandlerQuestion,
  PortDescription,
  Question,
  Report,
} from './coordinator/messages.ts';
import { closeLinks, release } from './coordinator/release.ts';
import { threadEnvironment } from './coordinator/thread-environment.ts';
import { workerFile } from './coordinator/worker-file.ts';
import { TwinpathError } from './errors.ts';
import { closeDoorbells } from './kernel/doorbell.ts';
import { pageSize } from './kernel/machine.ts';
import { runtimeFolder } from './kernel/runtime-folder.ts';
import { loadShim } from './kernel/shim.ts';
import { HandlerMail } from './mailbox/handler-mail.ts';
import { MaintenanceWatch } from './maintenance/watch.ts';
import { LEDGER_FIELDS } from './memory/blocks.ts';
import { Journal } from './memory/journal.ts';
import { Memory } from './memory/shared.ts';
import type { RssMode } from './options.ts';
import { errorEvent, type ReportedEvent } from './port-events.ts';
import { geometryOf, type Settings } from './settings.ts';
import { startFailure } from './start-failure.ts';

/**
 * Where the packet frames of one worker are, counted in frames. `accounted` is the sum of the places; it is always equal to
 * `total`, or a frame was lost. `duplicates` is how many frames were found twice: always 0.
 */
export type FrameLedger = Record<(typeof LEDGER_FIELDS)[number], number>;

/** A port, as its group sees it. */
export interface Member {
  /** An event of this port, or of all ports of the group. */
  event(event: ReportedEvent): void;
  /** A handler of this port has sent a message. */
  message(value: unknown, queue: number): void;
  /** All resources are released. */
  closed(): void;
}

/** How long an exiting thread waits for the coordinator, which may be in a system call that waits for RTNL. */
const EXIT_MILLIS = 200;
/** A port that is closed before has no control socket: starting a thread costs more than such a port lives. */
const CONTROL_MILLIS = 250;
/** The groups whose supervisor runs: it has to know that this process, or thread, exits. */
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
  #control: ControlThread | undefined;
  #controlTimer: NodeJS.Timeout | undefined;
  /** Starts the control thread, once; undefined without a control socket. */
  #openControl: (() => ControlThread | undefined) | undefined;
  #maintenance: MaintenanceWatch | undefined;
  readonly #members: Member[] = [];
  readonly #mail: HandlerMail;
  /** Reports from before the ports joined. */
  readonly #early: Report[] = [];
  readonly #questions = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  #nextQuestion = 1;
  #closed: Promise<void> | undefined;
  #ended = false;
  /** Whether the supervisor has reported that all resources are released. */
  #orderly = false;

  constructor(settings: Settings) {
    this.memory = Memory.create(geometryOf(settings, pageSize()));
    this.rss = settings.rss;
    this.journal = new Journal(this.memory);
    this.#settings = settings;
    this.#mail = new HandlerMail(this.memory, (handler, value, queue) => {
      for (const [port, member] of this.#members.entries())
        if (settings.handlerOf[port] === handler) member.message(value, queue);
    });
    this.#supervisor = startLoading(this.memory, (loaded) => {
      const workerData: GroupData = { shared: this.memory.shared, settings, loaded };
      const options = { workerData, name: 'twinpath supervisor', env: threadEnvironment() };
      return new Worker(workerFile('supervisor'), options);
    });
    if (running.size === 0) process.on('exit', exiting);
    running.add(this);
  }

  /**
   * Waits until the ports are open.
   *
   * @returns a description of each; the ports have to join at once, in the same order
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
        else if (report.kind === 'line') this.#mail.add(report.line);
        else if (report.kind === 'failed') {
          this.#orderly = true;
          failure = TwinpathError.from(report.error); // thrown when its thread has ended: everything is undone then
        } else if (this.#members.length === 0 || this.#early.length > 0) this.#early.push(report);
        else this.#receive(report);
      });
    });
    const { control } = this.#settings;
    const wanted = control === true || (control === 'default' && runtimeFolder().folder !== undefined);
    // The supervisor may have ended before this thread could read that it was ready.
    if (wanted && this.#closed === undefined && !this.#ended) {
      this.#openControl = () => (this.#control ??= this.#startControl(descriptions));
      this.#controlTimer = setTimeout(this.#openControl, CONTROL_MILLIS).unref();
    }
    this.#followMaintenance();
    // Events from while the ports were opened are emitted once the application can have added listeners.
    setImmediate(() => {
      for (const report of this.#early.splice(0)) this.#receive(report);
      this.#mail.listen();
    });
    return descriptions;
  }

  /** Opens the control socket without delay, if there is to be one. Resolves when it listens, or cannot. */
  async attachable(): Promise<void> {
    clearTimeout(this.#controlTimer);
    if (this.#closed === undefined && !this.#ended) await this.#openControl?.()?.settled;
  }

  /** Path of the control socket; undefined without one, and in the first moments. */
  get controlSocket(): string | undefined {
    return this.#control?.file;
  }

  join(member: Member): void {
    this.#members.push(member);
  }

  /** @throws ERR_PORT_CLOSED */
  send(command: Command): void {
    if (this.#closed !== undefined || this.#ended) throw new TwinpathError('ERR_PORT_CLOSED');
    this.#supervisor.postMessage(command);
  }

  /** Asks the coordinator, or the supervisor. @throws ERR_PORT_CLOSED, and what it answers with */
  ask(question: Question | HandlerQuestion): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextQuestion++;
      this.send({ kind: 'ask', id, question });
      this.#questions.set(id, { resolve, reject });
    });
  }

  /** Posts a message to the handler of a port. See HandlerMail.post. */
  async postMessage(port: number, value: unknown, queue: number | undefined): Promise<void> {
    if (this.#closed !== undefined || this.#ended) throw new TwinpathError('ERR_PORT_CLOSED');
    return this.#mail.post(port, value, queue);
  }

  /** Before the process terminates all threads: waits until they may be terminated. */
  exiting(): void {
    const done = newCompletion();
    this.#supervisor.postMessage({ kind: 'exit', done } satisfies Command);
    waitForLoading(this.memory, LOADING_MILLIS);
    waitForCompletion(done, EXIT_MILLIS);
    waitForLoading(this.memory, LOADING_MILLIS); // threads that were started before the supervisor had read the message
    this.#control?.exiting();
    // A process that exits closes its descriptors, a thread does not.
    if (isMainThread) return;
    this.#releaseAll();
    closeDoorbells(loadShim(), this.memory);
  }

  async audit(): Promise<FrameLedger[]> {
    await this.ask({ kind: 'audit' });
    const { words, workers } = this.memory;
    return workers.map((worker) => {
      const at = worker.at('ledger');
      return Object.fromEntries(LEDGER_FIELDS.map((field, i) => [field, words[at + i]!])) as FrameLedger;
    });
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      if (this.#ended) return;
      clearTimeout(this.#controlTimer);
      this.#maintenance?.close();
      const exited = once(this.#supervisor, 'exit');
      this.#supervisor.postMessage({ kind: 'close' } satisfies Command);
      await exited;
      await this.#control?.ended;
    })();
    return this.#closed;
  }

  #followMaintenance(): void {
    const { maintenance } = this.#settings;
    if (maintenance === undefined || this.#closed !== undefined || this.#ended) return;
    this.#maintenance = new MaintenanceWatch(maintenance, {
      event: (event) => this.#receive({ kind: 'maintenance', event }),
      setAside: (aside) => this.ask({ kind: 'set aside', aside }),
      failed: (error) => this.#fail(error),
    });
    this.#maintenance.start();
  }

  #startControl(ports: readonly PortDescription[]): ControlThread | undefined {
    try {
      return new ControlThread(
        this.memory,
        { settings: this.#settings, ports },
        (line) => this.#supervisor.postMessage({ kind: 'attach', line } satisfies Command, [line]),
        (error) => this.#fail(error),
      );
    } catch (error) {
      this.#fail(new TwinpathError('ERR_CONTROL', { detail: (error as Error).message }));
      return undefined;
    }
  }

  #receive(report: Report): void {
    switch (report.kind) {
      case 'path':
      case 'link':
      case 'carrier':
      case 'configured':
      case 'counted':
        this.#members[report.event.port]?.event(report);
        return;
      case 'worker':
      case 'maintenance':
        for (const member of this.#members) member.event(report);
        return;
      case 'error':
        for (const [port, member] of this.#members.entries())
          if (report.port === undefined || report.port === port) member.event(report);
        return;
      case 'answered': {
        const { id, value, error } = report;
        const question = this.#questions.get(id);
        this.#questions.delete(id);
        if (error === undefined) question?.resolve(value);
        else question?.reject(TwinpathError.from(error));
        return;
      }
      case 'closed':
        this.#orderly = true;
        return;
      default:
    }
  }

  #fail(error: unknown): void {
    this.#receive(errorEvent(error));
  }

  /** The supervisor's thread has ended, and all others with it. Releases what the supervisor has not released. */
  #exited(reason: string): void {
    for (const report of this.#early.splice(0)) this.#receive(report);
    if (!this.#orderly) {
      const detail = `the supervisor died, and the ports are closed: ${reason}`;
      this.#fail(new TwinpathError('ERR_WORKER', { detail }));
      this.#releaseAll();
    }
    this.#end();
  }

  /** Releases all resources without a coordinator: the threads have ended, or are about to. */
  #releaseAll(): void {
    const shim = loadShim();
    closeLinks(shim, this.memory);
    this.memory.control.stopAll();
    const report = (error: unknown): void => this.#fail(error);
    release({ shim, memory: this.memory, settings: this.#settings, report }).forEach(report);
  }

  #end(): void {
    this.#ended = true;
    this.#mail.close();
    closeDoorbells(loadShim(), this.memory); // by the thread that rings them for messages
    clearTimeout(this.#controlTimer);
    this.#maintenance?.close();
    running.delete(this);
    if (running.size === 0) process.off('exit', exiting);
    for (const { reject } of this.#questions.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
    this.#questions.clear();
    for (const member of this.#members) member.closed();
  }
}
