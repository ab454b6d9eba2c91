/**
 * The supervisor of a group of ports: starts its threads, the coordinator and the queue workers, and replaces those that
 * die. Everything between the application's thread and the coordinator passes through it.
 *
 * It is a thread of its own (workers/supervisor.ts), because workers end with the thread that started them: they must
 * outlive a coordinator, and their replacement must not wait for a busy application. It makes no system call that can
 * fail once the ports are open, and it does nothing but this.
 *
 * A coordinator that dies is followed by another one, which goes on from the checkpoint while the workers go on polling.
 * If that one cannot, or they die again and again, the group **fails open**: the kernel has its interfaces back at once,
 * then the threads end, and the application is told.
 */
import { Worker } from 'node:worker_threads';
import type { TwinpathError } from '../errors.ts';
import { closeDoorbells, openDoorbells, ringDoorbell } from '../kernel/doorbell.ts';
import { raisePriority } from '../kernel/machine.ts';
import { loadShim, type Shim } from '../kernel/shim.ts';
import { Memory } from '../memory/shared.ts';
import type { Settings } from '../options.ts';
import { startFailure } from '../start-failure.ts';
import { lifted, newLatch } from './latch.ts';
import {
  type CoordinatorData,
  type CoordinatorOrder,
  type GroupData,
  type Instruction,
  type Message,
  type Order,
  type PlainError,
  plain,
  type Report,
} from './messages.ts';
import { QueueSpread } from './queue-spread.ts';
import { QueueWorkers, workerFile } from './queue-workers.ts';
import { closeLinks, release } from './release.ts';
import { Watchdog } from './watchdog.ts';

/** Pauses before a coordinator that died is followed by another one, in ms, counted over {@link MEMORY_MILLIS}. */
const PAUSES = [0, 50, 250, 1000];
const MEMORY_MILLIS = 60_000;
/** How long a coordinator that is to end may be in a system call that waits for RTNL. */
const EXIT_MILLIS = 2_000;

export class Supervisor {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #spread: QueueSpread;
  readonly #tell: (report: Report) => void;
  readonly #ended: Promise<void>;
  #end: () => void = () => {};
  #coordinator: Worker | undefined;
  #workers: QueueWorkers | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  /** When coordinators have died, `performance.now()`. */
  #deaths: number[] = [];
  /** Orders that no coordinator has carried out yet, by number, oldest first. */
  readonly #orders = new Map<number, CoordinatorOrder>();
  #nextOrder = 1;
  /** Queues that no worker serves any more. */
  readonly #left: number[] = [];
  /** Whether the application has been told that its ports are open. */
  #open = false;
  #ending = false;

  /** @param tell sends a report to the application's thread */
  constructor({ shared, settings }: GroupData, tell: (report: Report) => void) {
    this.#shim = loadShim();
    this.#memory = Memory.attach(shared);
    this.#settings = settings;
    this.#spread = new QueueSpread(this.#memory);
    this.#tell = tell;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Resolves when everything has ended: the last report says how. */
  async run(): Promise<void> {
    try {
      this.#shim.threadName('twinpath-super');
      raisePriority();
      openDoorbells(this.#shim, this.#memory);
      this.#startCoordinator(false);
    } catch (error) {
      await this.#finish({ kind: 'failed', error: plain(error) });
    }
    await this.#ended;
  }

  /** What the application wants. */
  order(order: Order): void {
    if (order.kind === 'redirect') {
      this.#spread.redirect(order.port, order.queues);
      return;
    }
    if (order.kind === 'exit') {
      this.#instruct(order);
      return;
    }
    const id = this.#nextOrder++;
    this.#orders.set(id, order);
    if (order.kind === 'close') this.#workers?.close();
    this.#instruct({ kind: 'order', id, order });
  }

  #startCoordinator(resume: boolean): void {
    const { shared } = this.#memory;
    const workerData: CoordinatorData = { shared, settings: this.#settings, resume };
    const coordinator = new Worker(workerFile('coordinator'), { workerData, name: 'twinpath coordinator' });
    let failure: PlainError = { code: 'ERR_WORKER', detail: 'the coordinator died: it ended by itself' };
    coordinator.on('message', (message: Message) => this.#hear(message));
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
    for (const queue of this.#left) this.#instruct({ kind: 'left', queue });
    for (const [id, order] of this.#orders) this.#instruct({ kind: 'order', id, order });
  }

  #hear(message: Message): void {
    switch (message.kind) {
      case 'chosen':
        this.#startWorkers().catch((error: unknown) => this.#fail(plain(error)));
        return;
      case 'ready':
        this.#open = true;
        this.#tell(message);
        return;
      case 'failed':
        this.#fail(message.error);
        return;
      case 'obeyed': {
        const order = this.#orders.get(message.id);
        this.#orders.delete(message.id);
        if (order?.kind === 'close') void this.#finish({ kind: 'closed' });
        return;
      }
      default:
        this.#tell(message);
    }
  }

  async #startWorkers(): Promise<void> {
    const watchdog = new Watchdog(this.#memory, this.#settings.stuckMillis, (queue) =>
      this.#workers?.endStuck(queue),
    );
    this.#workers = new QueueWorkers(this.#memory.shared, this.#settings, {
      worker: (news) => {
        if (news.state === 'died') watchdog.died(news.queue);
        this.#tell({ kind: 'worker', news });
      },
      error: (error) => this.#tell({ kind: 'error', error }),
      gaveUp: (queue) => this.#spread.giveUp(queue),
      restored: (queue) => this.#spread.restore(queue),
      left: (queue) => {
        this.#left.push(queue);
        this.#instruct({ kind: 'left', queue });
      },
    });
    await this.#workers.start();
    if (this.#ending) return;
    this.#watchdog = setInterval(() => watchdog.look(), watchdog.periodMillis);
    this.#instruct({ kind: 'workers started' });
  }

  /** The coordinator has ended, and nobody had told it to. */
  #died(error: PlainError): void {
    const now = performance.now();
    this.#deaths = [...this.#deaths.filter((at) => now - at < MEMORY_MILLIS), now];
    const pause = PAUSES[this.#deaths.length - 1];
    if (!this.#open || pause === undefined) {
      this.#fail(error);
      return;
    }
    this.#tell({ kind: 'error', error: { ...error, hint: 'Another one goes on in its place.' } });
    this.#restart = setTimeout(() => {
      try {
        this.#startCoordinator(true);
      } catch (error) {
        this.#fail(plain(error));
      }
    }, pause);
  }

  /** There will be no port, or none any more. */
  #fail(error: PlainError): void {
    if (this.#ending) return;
    if (!this.#open) void this.#finish({ kind: 'failed', error });
    else {
      const hint = 'The ports are closed and the kernel has its interfaces back: open them again.';
      void this.#finish({ kind: 'closed', error: { ...error, hint } });
    }
  }

  /** Ends everything. What a coordinator has closed in good order is closed; the rest is closed here. */
  async #finish(last: Report): Promise<void> {
    this.#ending = true;
    clearTimeout(this.#restart);
    closeLinks(this.#shim, this.#memory);
    await this.#endCoordinator();
    closeLinks(this.#shim, this.#memory); // what it opened meanwhile
    await this.#stopWorkers();
    const report = (error: TwinpathError): void => this.#tell({ kind: 'error', error: error.toJSON() });
    const place = { shim: this.#shim, memory: this.#memory, settings: this.#settings, report };
    for (const error of release(place)) this.#tell({ kind: 'error', error: plain(error) });
    closeDoorbells(this.#shim, this.#memory);
    this.#tell(last);
    this.#end();
  }

  async #endCoordinator(): Promise<void> {
    const coordinator = this.#coordinator;
    if (coordinator === undefined) return;
    const done = newLatch();
    this.#instruct({ kind: 'exit', done });
    await lifted(done, EXIT_MILLIS);
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

  #instruct(instruction: Instruction): void {
    this.#coordinator?.postMessage(instruction);
  }
}
