/**
 * The supervisor of a group of ports: starts the group's threads, the coordinator and the queue workers, and replaces those
 * that die. It forwards all messages between the application's thread and the coordinator. And it is the thread of the
 * group's failovers (group-failover.ts).
 *
 * It has a thread of its own (workers/supervisor.ts), because workers end with the thread that started them: they must
 * outlive a coordinator, and neither their replacement nor a failover may wait for a busy application. While the ports are
 * open, it makes no system call that blocks.
 *
 * If the coordinator dies, another one resumes from the checkpoint while the workers go on polling. If that one cannot, or
 * if coordinators die again and again, the group **fails open**: the kernel has its interfaces back at once, then the
 * threads end, and the application gets an error.
 */
import { type MessagePort, Worker } from 'node:worker_threads';
import { type PlainError, plainError, TwinpathError } from '../errors.ts';
import { openDoorbells, ringDoorbell } from '../kernel/doorbell.ts';
import { raisePriority } from '../kernel/machine.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import type { MailLine } from '../mailbox/mail.ts';
import { Memory } from '../memory/shared.ts';
import { errorEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { startFailure } from '../start-failure.ts';
import { complete, completed, newCompletion } from './completion.ts';
import { GroupFailover } from './group-failover.ts';
import { HandlerChanges } from './handler-changes.ts';
import { startLoading } from './loading.ts';
import type {
  Command,
  CoordinatorCommand,
  CoordinatorData,
  FromCoordinator,
  GroupData,
  HandlerQuestion,
  OrderMessage,
  Report,
  SpreadMessage,
  ToCoordinator,
} from './messages.ts';
import { QueueSpread } from './queue-spread.ts';
import { QueueWorkers } from './queue-workers.ts';
import { closeLinks, release } from './release.ts';
import { Watchdog } from './watchdog.ts';
import { workerFile } from './worker-file.ts';

/** Pauses before a coordinator that died is replaced, in ms, by its number of deaths in {@link DEATH_WINDOW_MILLIS}. */
const PAUSES = [0, 50, 250, 1000];
const DEATH_WINDOW_MILLIS = 60_000;
/** How long the supervisor waits for a coordinator that has to end: it may be in a system call that waits for RTNL. */
const EXIT_MILLIS = 2_000;

export class Supervisor {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #spread: QueueSpread;
  readonly #failover: GroupFailover;
  readonly #post: (report: Report) => void;
  /** Gives the application its end of a line to handlers. */
  readonly #giveLine: (line: MailLine) => void;
  readonly #ended: Promise<void>;
  #end: () => void = () => {};
  /** To the control thread. */
  #line: MessagePort | undefined;
  /** The last report of each kind about each port: for a control thread that comes later. */
  readonly #last = new Map<string, Report>();
  #closing = false;
  #coordinator: Worker | undefined;
  #workers: QueueWorkers | undefined;
  #handlerChanges: HandlerChanges | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  /** When coordinators died, `performance.now()`. */
  #deaths: number[] = [];
  /** Commands that no coordinator has executed yet, by number, oldest first. */
  readonly #commands = new Map<number, CoordinatorCommand>();
  #nextCommand = 1;
  /** Whether the ports have been reported as open. */
  #open = false;
  #ending = false;
  /** Whether the process exits: no thread is started any more. */
  #exiting = false;

  /** @param post sends a report to the application's thread, with the ports in it */
  constructor(
    { shared, settings }: GroupData,
    post: (report: Report, transfer?: readonly MessagePort[]) => void,
  ) {
    this.#shim = loadShim();
    this.#memory = Memory.attach(shared);
    this.#settings = settings;
    this.#spread = new QueueSpread(this.#memory, settings);
    this.#post = (report) => {
      this.#line?.postMessage(report);
      if (report.kind === 'link' || report.kind === 'carrier' || report.kind === 'configured')
        this.#last.set(`${report.kind} ${report.event.port}`, report);
      if (report.kind !== 'answered' || report.id > 0) post(report);
    };
    this.#giveLine = (line) => post({ kind: 'line', line }, [line.line]);
    this.#failover = new GroupFailover(this.#shim, this.#memory, settings, this.#post, (notice) =>
      this.#toCoordinator(notice),
    );
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Resolves when all threads have ended; the last report says how. */
  async run(): Promise<void> {
    try {
      this.#shim.threadName('twinpath-super');
      raisePriority();
      openDoorbells(this.#shim, this.#memory);
      this.#failover.open();
      this.#startCoordinator(false);
    } catch (error) {
      await this.#finish({ kind: 'failed', error: plainError(error) });
    }
    await this.#ended;
  }

  /** Executes a command of the application, or has the coordinator execute it. */
  execute(command: Command): void {
    if (command.kind === 'attach') {
      this.#line = command.line;
      this.#line.on('message', (given: Command) => this.execute(given));
      for (const report of this.#last.values()) this.#line.postMessage(report);
      return;
    }
    if (command.kind === 'exit') {
      this.#exiting = true;
      this.#failover.close();
      if (this.#coordinator === undefined) complete(command.done);
      else this.#toCoordinator(command);
      return;
    }
    if (command.kind === 'close') {
      if (this.#closing) return; // the application and a command may both want it
      this.#closing = true;
    }
    if (command.kind === 'ask' && command.question.kind === 'handler options') {
      void this.#changeOptions(command.id, command.question);
      return;
    }
    const id = this.#nextCommand++;
    this.#commands.set(id, command as CoordinatorCommand);
    if (command.kind === 'close') this.#workers?.close();
    this.#toCoordinator({ kind: 'execute', id, command: command as CoordinatorCommand });
  }

  async #changeOptions(id: number, { port, change }: HandlerQuestion): Promise<void> {
    try {
      if (this.#handlerChanges === undefined) throw new TwinpathError('ERR_PORT_CLOSED');
      const value = await this.#handlerChanges.change(this.#settings.handlerOf[port]!, change);
      this.#post({ kind: 'answered', id, value });
    } catch (error) {
      this.#post({ kind: 'answered', id, error: plainError(error) });
    }
  }

  #startCoordinator(resume: boolean): void {
    if (this.#exiting) return;
    const { shared } = this.#memory;
    const coordinator = startLoading(this.#memory, (loaded) => {
      const workerData: CoordinatorData = { shared, settings: this.#settings, loaded, resume };
      return new Worker(workerFile('coordinator'), { workerData, name: 'twinpath coordinator' });
    });
    let failure: PlainError = { code: 'ERR_WORKER', detail: 'the coordinator died: it ended by itself' };
    coordinator.on('message', (message: FromCoordinator) => {
      if (message.kind === 'order') this.#order(coordinator, message);
      else if (message.kind === 'spread') this.#spreadFlows(coordinator, message);
      else this.#receive(message);
    });
    coordinator.on('error', (error) => {
      const detail = `the coordinator died: ${error.message}`;
      failure = startFailure(error)?.toJSON() ?? { code: 'ERR_WORKER', detail };
    });
    coordinator.on('exit', () => {
      this.#coordinator = undefined;
      if (!this.#ending) this.#died(failure);
    });
    this.#coordinator = coordinator;
    if (!resume) return;
    for (const path of this.#failover.left) this.#toCoordinator({ kind: 'left', ...path });
    for (const [id, command] of this.#commands) this.#toCoordinator({ kind: 'execute', id, command });
  }

  /** Has the workers carry out an order, and answers the coordinator that gave it. */
  #order(coordinator: Worker, { id, port, order }: OrderMessage): void {
    const answer = (): void => coordinator.postMessage({ kind: 'ordered', id } satisfies ToCoordinator);
    void this.#failover.execute(port, order).then(answer);
  }

  #spreadFlows(coordinator: Worker, { id, port, wanted }: SpreadMessage): void {
    this.#spread.configure(port, wanted);
    coordinator.postMessage({ kind: 'ordered', id } satisfies ToCoordinator);
  }

  #receive(message: Exclude<FromCoordinator, OrderMessage | SpreadMessage>): void {
    switch (message.kind) {
      case 'devices chosen':
        this.#startWorkers().catch((error: unknown) => this.#fail(plainError(error)));
        return;
      case 'ready':
        this.#open = true;
        this.#post(message);
        return;
      case 'failed':
        this.#fail(message.error);
        return;
      case 'executed': {
        const command = this.#commands.get(message.id);
        this.#commands.delete(message.id);
        if (command?.kind === 'close' && !this.#ending) void this.#finish({ kind: 'closed' });
        return;
      }
      default:
        this.#post(message); // events
    }
  }

  async #startWorkers(): Promise<void> {
    if (this.#exiting) return;
    const watchdog = new Watchdog(this.#memory, this.#settings.stuckMillis, (queue) =>
      this.#workers?.endStuck(queue),
    );
    this.#workers = new QueueWorkers(this.#memory.shared, this.#settings, {
      report: (event) => {
        if (event.kind === 'worker' && event.event.state === 'died') watchdog.died(event.event.queue);
        this.#post(event);
      },
      line: this.#giveLine,
      gaveUp: (queue) => this.#spread.giveUp(queue),
      restored: (queue) => this.#spread.restore(queue),
      gone: (queue) => this.#failover.abandon(queue),
    });
    this.#handlerChanges = new HandlerChanges(this.#workers);
    await this.#workers.start();
    if (this.#ending) return;
    this.#watchdog = setInterval(() => watchdog.check(), watchdog.periodMillis);
    this.#toCoordinator({ kind: 'workers started' });
  }

  /** The coordinator has ended by itself. */
  #died(error: PlainError): void {
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < DEATH_WINDOW_MILLIS), now];
    const pause = PAUSES[this.#deaths.length - 1];
    if (!this.#open || pause === undefined) {
      this.#fail(error);
      return;
    }
    this.#post({ kind: 'error', event: { ...error, hint: 'Another one takes its place.' } });
    this.#restart = setTimeout(() => {
      try {
        this.#startCoordinator(true);
      } catch (error) {
        this.#fail(plainError(error));
      }
    }, pause);
  }

  /** The ports cannot be opened, or have to be closed. */
  #fail(error: PlainError): void {
    if (this.#ending) return;
    if (!this.#open) void this.#finish({ kind: 'failed', error });
    else {
      const hint = 'The ports are closed and the kernel has its interfaces back: open them again.';
      void this.#finish({ kind: 'error', event: { ...error, hint } }, { kind: 'closed' });
    }
  }

  /** Ends all threads, and closes what the coordinator has not closed. */
  async #finish(...last: Report[]): Promise<void> {
    this.#ending = true;
    clearTimeout(this.#restart);
    closeLinks(this.#shim, this.#memory);
    await this.#endCoordinator();
    closeLinks(this.#shim, this.#memory); // what it opened meanwhile
    await this.#stopWorkers();
    this.#failover.close();
    const report = (error: unknown): void => this.#post(errorEvent(error));
    release({ shim: this.#shim, memory: this.#memory, settings: this.#settings, report }).forEach(report);
    for (const one of last) this.#post(one);
    this.#line?.close();
    this.#end();
  }

  async #endCoordinator(): Promise<void> {
    const coordinator = this.#coordinator;
    if (coordinator === undefined) return;
    const done = newCompletion();
    this.#toCoordinator({ kind: 'exit', done });
    await completed(done, EXIT_MILLIS);
    await coordinator.terminate();
  }

  async #stopWorkers(): Promise<void> {
    clearInterval(this.#watchdog);
    if (this.#workers === undefined) return;
    this.#workers.close();
    const { control, workers } = this.#memory;
    control.stopAll();
    for (let queue = 0; queue < workers.length; queue++) ringDoorbell(this.#shim, this.#memory, queue);
    await this.#workers.stop();
  }

  #toCoordinator(message: ToCoordinator): void {
    this.#coordinator?.postMessage(message);
  }
}
