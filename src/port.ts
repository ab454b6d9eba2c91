/**
 * The consolidated port, as an application holds it.
 *
 * `openPort` starts a coordinator thread and, through it, a worker thread per queue; this thread is not
 * needed any more after that. It may block, be busy, or never look at the port again: packets flow and paths
 * fail over all the same. Everything here belongs to the thread that opened the port.
 */
import type { Readable } from 'node:stream';
import type { MemoryPath, PortDescription } from './coordinator/messages.ts';
import { type DeliveredPacket, Deliveries, type DeliveryOptions } from './delivery.ts';
import { TwinpathError } from './errors.ts';
import { type FrameLedger, Group } from './group.ts';
import { loadShim, requireLinux } from './kernel/shim.ts';
import type { SharedMemory } from './memory/geometry.ts';
import type { Failover } from './memory/journal.ts';
import { macOf } from './memory/macs.ts';
import {
  type ForwardTarget,
  type OpenPortOptions,
  type OpenPortsOptions,
  type Settings,
  single,
  validate,
} from './options.ts';
import { PortEmitter } from './port-events.ts';
import { startFailure } from './start-failure.ts';
import { type PortStatistics, portStatistics } from './statistics.ts';

/**
 * A port, as {@link openPort} answers with it. Belongs to the thread that opened it.
 *
 * Events: 'path' ({@link Failover}), 'link' ({@link LinkNews}), 'worker' ({@link WorkerNews}),
 * 'error' ({@link TwinpathError}), 'close'.
 */
export class Port extends PortEmitter implements AsyncDisposable, ForwardTarget {
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
    group.join({
      path: (failover, paths) => {
        this.#describe(paths);
        this.emit('path', failover);
      },
      link: (news, paths) => {
        this.#describe(paths);
        this.emit('link', news);
      },
      worker: (news) => this.emit('worker', news),
      error: (error) => {
        if (this.listenerCount('error') > 0) this.emit('error', error);
        else process.emitWarning(error);
      },
      ended: () => {
        this.#deliveries.close();
        this.emit('close');
      },
    });
  }

  /** Name of the NetVSC when the port was opened. */
  get device(): string {
    return this.#description.device;
  }

  /** 'aa:bb:cc:dd:ee:ff', of this moment; the VF has the same. */
  get mac(): string {
    return macOf(this.#group.memory, this.#number);
  }

  /** The open paths: driver, device, mode, redirect. As of the last 'path' or 'link' event. */
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
   * does not return from its handler does not answer; the one that replaces it does.
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

  /** The same as {@link close}, for `await using`. */
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

  #describe(paths: PortDescription['paths']): void {
    this.#description = { ...this.#description, paths };
  }
}

/**
 * Opens one port over a NetVSC and its VF. Resolves when every queue polls and the synthetic path carries
 * packets; the VF is used whenever it is there, from then on.
 *
 * @throws TwinpathError: ERR_NOT_LINUX, before anything else; ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID, ERR_HANDLER,
 *   ERR_NO_NETVSC, ERR_DEVICE_NOT_FOUND, ERR_DEVICE_NOT_NETVSC, ERR_DEVICE_AMBIGUOUS, ERR_DEVICE_IN_USE, ERR_DEVICE_BUSY,
 *   ERR_PERMISSION, ERR_NO_TUN, ERR_SHIM_MISSING, ERR_SHIM_LOAD, ERR_SHIM_ABI, ERR_START, ERR_KERNEL; nothing on the
 *   machine is changed then
 */
export async function openPort(options: OpenPortOptions): Promise<Port> {
  requireLinux();
  const [port] = await openPorts(single(options));
  return port!;
}

/** Opens several ports with one set of workers: worker i serves queue i of each. Throws as `openPort`. */
export async function openPorts(options: OpenPortsOptions): Promise<Port[]> {
  requireLinux();
  const settings = validate(options);
  const { signal } = options;
  signal?.throwIfAborted();
  loadShim(); // built here, once, if it must be; and an error thrown here keeps its class
  const group = startGroup(settings);
  // Also while it opens: a handler's module may never come to its end.
  signal?.addEventListener('abort', () => void group.close(), { once: true });
  const descriptions = await group.ready().catch((error) => {
    signal?.throwIfAborted();
    throw startFailure(error) ?? error;
  });
  const ports = descriptions.map((description, number) => new Port(group, number, description));
  if (signal?.aborted) {
    await group.close();
    signal.throwIfAborted();
  }
  return ports;
}

/** @throws ERR_START when Node starts no thread */
function startGroup(settings: Settings): Group {
  try {
    return new Group(settings);
  } catch (error) {
    throw startFailure(error) ?? error;
  }
}
