/**
 * The failovers of a group of ports: reads the messages about links and the rings of workers, and has workers ordered off
 * lost paths (port-failover.ts). It goes on while the coordinator is in a slow system call for any port, and while there is
 * no coordinator.
 *
 * Supervisor's thread only.
 */
import { TwinpathError } from '../errors.ts';
import { LinkWatch } from '../kernel/link-watch.ts';
import { onReadable, type Readiness } from '../kernel/readiness.ts';
import type { Shim } from '../kernel/shim.ts';
import { Journal } from '../memory/journal.ts';
import type { Memory } from '../memory/shared.ts';
import type { ReportedEvent } from '../port-events.ts';
import type { Settings } from '../settings.ts';
import { Ownership } from './ownership.ts';
import type { LeftPath, PathNotice, PathOrder } from './path-orders.ts';
import { PortFailover } from './port-failover.ts';
import { TaskRunner } from './task-runner.ts';

/** How often everything is checked without a ring or a message, since one may be lost and a check may fail. */
const CHECK_MILLIS = 500;

export class GroupFailover {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #settings: Settings;
  readonly #tasks: TaskRunner;
  readonly #ports: readonly PortFailover[];
  /** Of ports on devices, while it is open. */
  #links: LinkWatch | undefined;
  readonly #readiness: Readiness[] = [];
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param report reports an event to the application
   * @param tell tells the coordinator, if there is one
   */
  constructor(
    shim: Shim,
    memory: Memory,
    settings: Settings,
    report: (event: ReportedEvent) => void,
    tell: (notice: PathNotice) => void,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#settings = settings;
    this.#tasks = new TaskRunner(report);
    const journal = new Journal(memory);
    this.#ports = settings.ports.map(
      (_, port) =>
        new PortFailover({
          memory,
          port,
          ownership: new Ownership(shim, memory, journal, port, report),
          isRunning: (ifindex) => this.#links?.isRunning(ifindex),
          tell,
          attempt: (step, work) => this.#tasks.run(step, work, port),
        }),
    );
  }

  /** Paths that were left and not reclaimed, for a coordinator that takes over. */
  get left(): LeftPath[] {
    return this.#ports.flatMap(({ left }) => left);
  }

  /** Before the coordinator starts. @throws ERR_KERNEL, ERR_PERMISSION; ERR_OPTION_INVALID: there is no such namespace */
  open(): void {
    const { network, netns } = this.#settings;
    if (network === 'kernel') {
      this.#links = LinkWatch.open(this.#shim, this.#memory, netns);
      this.#onReadable(this.#links.fd, 'reading links', () => this.#readLinks());
    }
    const bell = this.#memory.workers[0]!.supervisorFd;
    const scratch = new Uint8Array(8);
    this.#onReadable(bell, 'checking workers', () => {
      this.#shim.read(bell, scratch, 8);
      this.#checkWorkers();
    });
    this.#timer = setInterval(() => {
      this.#tasks.run('reading links', () => this.#readLinks());
      this.#tasks.run('checking workers', () => this.#checkWorkers());
    }, CHECK_MILLIS);
  }

  /** Carries out an order of the coordinator. Resolves when the workers have carried out every order so far. */
  execute(port: number, order: PathOrder): Promise<void> {
    // The coordinator has read these messages.
    this.#tasks.run('reading links', () => this.#readLinks());
    return this.#ports[port]!.execute(order);
  }

  /** While the ports close: this queue has no worker any more. */
  abandon(queue: number): void {
    for (const port of this.#ports) port.abandon(queue);
  }

  /** Uses no descriptor any more: `release` closes them. */
  close(): void {
    clearInterval(this.#timer);
    for (const readiness of this.#readiness.splice(0)) readiness.close();
    this.#links = undefined;
  }

  /** @throws ERR_KERNEL once the messages before the failure are handled */
  #readLinks(): void {
    const reading = this.#links?.read();
    if (reading === undefined) return;
    for (const port of this.#ports) port.linksRead(reading);
    const { errno } = reading;
    if (errno !== 0) throw new TwinpathError('ERR_KERNEL', { syscall: 'recv(RTNLGRP_LINK)', errno });
  }

  #checkWorkers(): void {
    for (const port of this.#ports) port.checkWorkers();
  }

  #onReadable(fd: number, task: string, read: () => void): void {
    this.#readiness.push(onReadable(fd, read, (error) => this.#tasks.failed(task, error)));
  }
}
