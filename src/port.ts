/**
 * The consolidated port, as an application holds it.
 *
 * `openPort` starts a coordinator thread and, through it, a worker thread per queue; this thread is not
 * needed any more after that. It may block, be busy, or never look at the port again: packets flow and paths
 * fail over all the same. Everything here belongs to the thread that opened the port.
 */
import { EventEmitter, once } from 'node:events';
import type { Readable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import type {
  CoordinatorData,
  LinkNews,
  MemoryPath,
  Order,
  PlainError,
  PortDescription,
  Report,
  WorkerNews,
} from './coordinator/messages.ts';
import { workerFile } from './coordinator/queue-workers.ts';
import { threadEnvironment } from './coordinator/thread-environment.ts';
import { type DeliveredPacket, Deliveries, type DeliveryOptions } from './delivery.ts';
import { TwinpathError } from './errors.ts';
import { pageSize } from './kernel/page-size.ts';
import { loadShim } from './kernel/shim.ts';
import { type Failover, Journal } from './memory/journal.ts';
import { LEDGER_FIELDS, type SharedMemory, WorkerBlock } from './memory/layout.ts';
import { Memory } from './memory/shared.ts';
import {
  type ForwardTarget,
  geometryOf,
  type OpenPortOptions,
  type OpenPortsOptions,
  type RssMode,
  type Settings,
  single,
  validate,
} from './options.ts';
import { type PortStatistics, portStatistics } from './statistics.ts';

/**
 * Where the packet frames of one worker are, counted in frames. `accounted` is the sum of the places and
 * equals `total`, always, or a frame was lost; `duplicates` is how many were found twice: 0, always.
 */
export type FrameLedger = Record<(typeof LEDGER_FIELDS)[number], number>;

/** Events come on the thread that opened the port, after the fact: a failover never waits for them. */
interface PortEvents {
  /** A queue has changed the path it transmits on: one event for each queue. */
  path: [Failover];
  /** A device of the port came, went, or could not be used. */
  link: [LinkNews];
  /** A worker thread started, or died and is being replaced. */
  worker: [WorkerNews];
  /** Something failed that the port lives on without, and will try again. Unheard, it becomes a warning. */
  error: [TwinpathError];
  /** Everything has been let go of. */
  close: [];
}

/** Ports opened together: one memory, one coordinator, one set of workers. */
class Group {
  readonly memory: Memory;
  readonly journal: Journal;
  readonly ports: Port[] = [];
  readonly rss: RssMode;
  readonly #coordinator: Worker;
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

  /** Waits for the ports. @throws TwinpathError, after everything was undone */
  async ready(): Promise<void> {
    const worker = this.#coordinator;
    const descriptions = await new Promise<PortDescription[]>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => reject(new TwinpathError('ERR_WORKER', { detail: 'the coordinator ended' })));
      worker.on('message', (report: Report) => {
        if (report.kind === 'ready') resolve(report.ports);
        else if (report.kind === 'failed') reject(TwinpathError.from(report.error));
        else if (this.ports.length === 0 || this.#early.length > 0) this.#early.push(report);
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
    for (const [number, description] of descriptions.entries()) {
      this.ports.push(new Port(this, number, description));
    }
    // What happened while the ports were opened is told once somebody can have listened.
    setImmediate(() => {
      for (const report of this.#early.splice(0)) this.#hear(report);
    });
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
        this.ports[report.failover.port]?.update(report.paths);
        this.ports[report.failover.port]?.emit('path', report.failover);
        return;
      case 'link':
        this.ports[report.news.port]?.update(report.paths);
        this.ports[report.news.port]?.emit('link', report.news);
        return;
      case 'worker':
        for (const port of this.ports) port.emit('worker', report.news);
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
    for (const port of this.ports) {
      if (port.listenerCount('error') > 0) port.emit('error', error);
      else process.emitWarning(error);
    }
  }

  #end(): void {
    this.#ended = true;
    for (const { reject } of this.#audits.values()) reject(new TwinpathError('ERR_PORT_CLOSED'));
    this.#audits.clear();
    for (const port of this.ports) port.end();
  }
}

/**
 * A port, as {@link openPort} answers with it. Belongs to the thread that opened it.
 *
 * Events: 'path' ({@link Failover}), 'link' ({@link LinkNews}), 'worker' ({@link WorkerNews}),
 * 'error' ({@link TwinpathError}), 'close'.
 */
export class Port extends EventEmitter<PortEvents> implements AsyncDisposable, ForwardTarget {
  readonly #group: Group;
  readonly #number: number;
  readonly #deliveries: Deliveries;
  readonly #active: Set<number>;
  #description: PortDescription;

  /** Use {@link openPort}. */
  constructor(group: Group, number: number, description: PortDescription) {
    super();
    this.#group = group;
    this.#number = number;
    this.#description = description;
    this.#deliveries = new Deliveries(group.memory, number);
    const { queues } = group.memory.layout.geometry;
    this.#active = new Set(Array.from({ length: queues }, (_, queue) => queue));
  }

  /** Name of the NetVSC when the port was opened. */
  get device(): string {
    return this.#description.device;
  }

  /** 'aa:bb:cc:dd:ee:ff'; the VF has the same. */
  get mac(): string {
    return this.#description.mac;
  }

  /** The open paths: driver, device, mode, tie. As of the last 'path' or 'link' event. */
  get paths(): PortDescription['paths'] {
    return this.#description.paths;
  }

  /** The queues that flows are spread over, ascending. */
  get activeQueues(): number[] {
    return [...this.#active].sort((a, b) => a - b);
  }

  /**
   * Spreads the flows over the first `count` queues, 1 up to as many as the port was opened with. Resolves when
   * every worker goes by it. No packet is lost; a flow that moves to another worker may overtake itself then.
   *
   * @throws ERR_OPTION_INVALID, also with `rss: 'device'`; ERR_PORT_CLOSED
   */
  async setQueues(count: number): Promise<void> {
    const { queues } = this.#group.memory.layout.geometry;
    if (!Number.isInteger(count) || count < 1 || count > queues) {
      const detail = `it must be a whole number from 1 to ${queues}, which the port was opened with`;
      throw new TwinpathError('ERR_OPTION_INVALID', { device: 'queues', detail });
    }
    await this.#redirect(Array.from({ length: count }, (_, queue) => queue));
  }

  /** Moves the flows of a queue to the others; its worker hands over what still comes to it. As {@link setQueues}. */
  async stopQueue(queue: number): Promise<void> {
    this.#known(queue);
    await this.#redirect(this.activeQueues.filter((active) => active !== queue));
  }

  /** Gives a stopped queue its share of the flows again. As {@link setQueues}. */
  async startQueue(queue: number): Promise<void> {
    this.#known(queue);
    await this.#redirect([...this.#active, queue]);
  }

  /**
   * Packets with the verdict DELIVER, one after the other, until the port is closed. One reader at a time.
   *
   * @throws ERR_OPTION_INVALID if there is another reader; AbortError
   */
  packets(options?: DeliveryOptions): AsyncGenerator<DeliveredPacket, void> {
    return this.#deliveries.packets(options);
  }

  /** The same, as many at a time as there are. */
  batches(options?: DeliveryOptions): AsyncGenerator<DeliveredPacket[], void> {
    return this.#deliveries.batches(options);
  }

  /** The same as a stream of objects. */
  readable(options?: DeliveryOptions): Readable {
    return this.#deliveries.readable(options);
  }

  /**
   * Counters of packets and bytes since the port was opened. Read from shared memory, so it asks nobody
   * and may be called at any rate, and after close. What the kernel counts itself is up to 500 ms old.
   */
  stats(): PortStatistics {
    return portStatistics(this.#group.memory, this.#number);
  }

  /** Every change of path since the port was opened, one record a queue, oldest first; the last 1024. */
  failovers(): Failover[] {
    return this.#group.journal.since(0).filter(({ port }) => port === this.#number);
  }

  /**
   * Asks each worker, at its next burst boundary, where its frames are. One ledger a queue. A worker that
   * does not return from its handler does not answer.
   *
   * @throws TwinpathError ERR_PORT_CLOSED
   */
  audit(): Promise<FrameLedger[]> {
    return this.#group.audit();
  }

  /**
   * Lets go of the devices in good order and ends the threads; ports opened together close together.
   * Packets that have arrived are still handled. Resolves when nothing is left; a worker that does not
   * return from its handler is ended after 5 s. May be called again.
   */
  close(): Promise<void> {
    return this.#group.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The memory that the datapath runs in: for memory networks and measuring. */
  get shared(): SharedMemory {
    return this.#group.memory.shared;
  }

  /**
   * Memory network only, elsewhere an 'error' event: a device appears on that path.
   *
   * @throws TwinpathError ERR_PORT_CLOSED
   */
  plug(path: MemoryPath, name: string = path): void {
    this.#group.order({ kind: 'plug', port: this.#number, path, name });
  }

  /** Memory network only: the device of that path goes. As {@link plug}. */
  unplug(path: MemoryPath): void {
    this.#group.order({ kind: 'unplug', port: this.#number, path });
  }

  /** What another `openPort` takes with `forwardTo`. */
  get route(): ForwardTarget['route'] {
    return { shared: this.shared, port: this.#number, from: 0 };
  }

  /** Not for applications: the group has ended. */
  end(): void {
    this.#deliveries.close();
    this.emit('close');
  }

  #known(queue: number): void {
    const { queues } = this.#group.memory.layout.geometry;
    if (Number.isInteger(queue) && queue >= 0 && queue < queues) return;
    const detail = `there is no queue ${queue}: they are numbered from 0 to ${queues - 1}`;
    throw new TwinpathError('ERR_OPTION_INVALID', { device: 'queue', detail });
  }

  async #redirect(queues: readonly number[]): Promise<void> {
    if (this.#group.rss === 'device') {
      throw new TwinpathError('ERR_OPTION_INVALID', {
        device: 'rss',
        detail: "with 'device' the devices alone spread the flows",
        hint: "Open the port with rss: 'auto' or 'software'.",
      });
    }
    if (queues.length === 0) {
      const detail = 'a port needs a queue: this is the last one';
      throw new TwinpathError('ERR_OPTION_INVALID', { device: 'queue', detail });
    }
    this.#group.order({ kind: 'redirect', port: this.#number, queues: [...new Set(queues)] });
    this.#active.clear();
    for (const queue of queues) this.#active.add(queue);
    await this.#group.audit(); // answered at a burst boundary behind the change
  }

  /** Not for applications. */
  update(paths: PortDescription['paths']): void {
    this.#description = { ...this.#description, paths };
  }
}

/**
 * Opens one port over a NetVSC and its VF. Resolves when every queue polls and the synthetic path carries
 * packets; the VF is used whenever it is there, from then on.
 *
 * @throws TwinpathError: ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID, ERR_HANDLER, ERR_NO_NETVSC,
 *   ERR_DEVICE_NOT_FOUND, ERR_DEVICE_NOT_NETVSC, ERR_DEVICE_AMBIGUOUS, ERR_DEVICE_IN_USE, ERR_DEVICE_BUSY,
 *   ERR_PERMISSION, ERR_NO_TUN, ERR_SHIM_MISSING, ERR_SHIM_LOAD, ERR_SHIM_ABI, ERR_KERNEL; nothing on the
 *   machine is changed then
 */
export async function openPort(options: OpenPortOptions): Promise<Port> {
  const [port] = await openPorts(single(options));
  return port!;
}

/** Opens several ports with one set of workers: worker i serves queue i of each. Throws as `openPort`. */
export async function openPorts(options: OpenPortsOptions): Promise<Port[]> {
  const settings = validate(options);
  const { signal } = options;
  signal?.throwIfAborted();
  loadShim(); // built here, once, if it must be; and an error thrown here keeps its class
  const group = new Group(settings);
  // Also while it opens: a handler's module may never come to its end.
  signal?.addEventListener('abort', () => void group.close(), { once: true });
  await group.ready().catch((error) => {
    signal?.throwIfAborted();
    throw error;
  });
  if (signal?.aborted) {
    await group.close();
    signal.throwIfAborted();
  }
  return group.ports;
}
