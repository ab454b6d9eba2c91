/**
 * The consolidated port: the application's object.
 *
 * `openPort` starts a supervisor thread, which starts a coordinator thread and a worker thread per queue. After that, packets
 * flow and paths fail over without the application's thread: it may block or be busy. Everything here belongs to the thread
 * that opened the port.
 */
import type { Readable } from 'node:stream';
import { type ConfigurationChange, checkChange, type PortConfiguration } from './configuration.ts';
import type { MemoryPath, PortDescription } from './coordinator/messages.ts';
import type { PortInformation } from './coordinator/port-information.ts';
import type { DeliveredBurst, DeliveredPacket } from './delivered-burst.ts';
import { Deliveries, type DeliveryOptions } from './delivery.ts';
import { TwinpathError } from './errors.ts';
import { ExtendedHistory, type ExtendedStatistics } from './extended-statistics.ts';
import { FlowRules } from './flow-rules.ts';
import { onFreePairs } from './free-ports.ts';
import { type FrameLedger, Group } from './group.ts';
import type { CounterReadings } from './kernel/device-counters.ts';
import { type LinkState, NO_LINK, sameLink } from './kernel/device-information.ts';
import type { RuleCounts } from './kernel/kernel-rules.ts';
import { loadShim, requireLinux } from './kernel/shim.ts';
import type { SharedMemory } from './memory/geometry.ts';
import type { Failover } from './memory/journal.ts';
import { macOf } from './memory/macs.ts';
import type { ForwardTarget, OpenPortOptions, OpenPortsOptions } from './options.ts';
import { type OpenPaths, PortEmitter, publish, type ReportedEvent } from './port-events.ts';
import { PortQueues } from './port-queues.ts';
import { type PortRss, portRss } from './port-rss.ts';
import { Replay, type ReplayReport } from './replay/replay.ts';
import { type Settings, single, validate } from './settings.ts';
import { startFailure } from './start-failure.ts';
import { type PortStatistics, portStatistics, statisticsSince } from './statistics.ts';
import { cloneable, invalid, onlyKnown, plainObject, wholeNumber } from './validation.ts';

/**
 * A port that {@link openPort} has opened. Belongs to the thread that opened it.
 *
 * Events: 'path' ({@link Failover}), 'link' ({@link LinkEvent}), 'carrier' ({@link CarrierEvent}),
 * 'worker' ({@link WorkerEvent}), 'maintenance' ({@link MaintenanceEvent}), 'message' (value, queue), 'error' ({@link TwinpathError}), 'close'.
 */
export class Port extends PortEmitter implements AsyncDisposable, ForwardTarget {
  readonly #group: Group;
  readonly #number: number;
  readonly #replay: Replay | undefined;
  readonly #deliveries: Deliveries;
  /** Which packets the handler gets, and how many each rule has counted. */
  readonly rules: FlowRules;
  readonly #queues: PortQueues;
  readonly #history = new ExtendedHistory();
  #description: PortDescription;
  #configuration: PortConfiguration;

  /** Use {@link openPort}. */
  constructor(group: Group, number: number, description: PortDescription, replay?: Replay) {
    super();
    this.#replay = replay;
    this.#group = group;
    this.#number = number;
    this.#description = description;
    this.#configuration = description.configuration;
    this.rules = new FlowRules(
      this,
      () => group.ask({ kind: 'count rules', port: number }) as Promise<RuleCounts | undefined>,
    );
    this.#queues = new PortQueues(this, group.memory.layout.geometry.queues);
    this.#deliveries = new Deliveries(group.memory, number, (reads) => replay?.setReading(number, reads));
    group.join({
      event: (event) => this.#emit(event),
      message: (value, queue) => this.emit('message', value, queue),
      closed: () => {
        this.#deliveries.close();
        void this.#replay?.stop();
        this.#description = { ...this.#description, link: NO_LINK };
        this.emit('close');
      },
    });
  }

  /** Name of the NetVSC when the port was opened. */
  get device(): string {
    return this.#description.device;
  }

  /** The present address, 'aa:bb:cc:dd:ee:ff'. The VF has the same. */
  get mac(): string {
    return macOf(this.#group.memory, this.#number);
  }

  /** The open paths: driver, device, mode, redirect. As of the last 'link' event. */
  get paths(): OpenPaths {
    return this.#description.paths;
  }

  /**
   * The port's link: that of the device that it transmits through, the VF's or else the NetVSC's. As of the last 'carrier'
   * event; reading it asks no other thread. A closed port has no link.
   */
  get link(): LinkState {
    return this.#description.link;
  }

  /**
   * What the port's devices are and can do, and what the port can: drivers, queues, rings, MTU range, offloads, AF_XDP. The
   * coordinator asks the kernel, which may take seconds while a VF comes or goes; packets flow meanwhile.
   *
   * @throws ERR_PORT_CLOSED; ERR_DEVICE_NOT_FOUND if the NetVSC is gone; ERR_OPTION_INVALID for a port in memory; ERR_KERNEL
   */
  async information(): Promise<PortInformation> {
    return (await this.#group.ask({ kind: 'information', port: this.#number })) as PortInformation;
  }

  /** How flows are spread now: what is in force, also while a queue is given up. Reads the shared memory. */
  get rss(): PortRss {
    const vf = this.#description.paths.vf?.rss;
    return portRss(this.#group.memory, this.#number, this.#group.rss, this.#configuration, vf);
  }

  /** The queues that flows are spread over, in ascending order. */
  get activeQueues(): number[] {
    return this.#queues.active;
  }

  /**
   * Spreads the flows over the first `count` queues, at most as many as the port was opened with, and stops the others. As
   * `configure({ queues })`.
   *
   * @throws ERR_OPTION_INVALID, and as `configure`
   */
  setQueues(count: number): Promise<void> {
    return this.#queues.select(count);
  }

  /** Moves the flows of a queue to the others. As {@link setQueues}. */
  stopQueue(queue: number): Promise<void> {
    return this.#queues.stop(queue);
  }

  /** Gives a stopped queue its share of the flows again. As {@link setQueues}. */
  startQueue(queue: number): Promise<void> {
    return this.#queues.start(queue);
  }

  /**
   * What `configure` has set last, or another program in its place. The devices have it, except for what `paths` names as
   * refused.
   */
  get configuration(): PortConfiguration {
    return this.#configuration;
  }

  /**
   * Changes the configuration of the port, on both paths: those that are open have it when this resolves, and a VF that comes
   * or returns gets it before it is used. If a device refuses, both paths are as they were before.
   *
   * @throws ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID; ERR_DEVICE_SETTINGS: what a device has refused; ERR_KERNEL, ERR_PERMISSION:
   *   why the rules could not be exchanged; ERR_PORT_CLOSED
   */
  async configure(change: ConfigurationChange): Promise<PortConfiguration> {
    const { frameSize, queues } = this.#group.memory.layout.geometry;
    const checked = checkChange(change, frameSize, queues);
    return (await this.#group.ask({
      ...{ kind: 'configure', port: this.#number },
      change: checked,
    })) as PortConfiguration;
  }

  /**
   * Changes options of the handler while it runs: those that are named, null takes one away. When this resolves, all queues have
   * agreed, and their workers have put them in place between two bursts; a worker that replaces a dead one, now or later, begins with
   * them. If a handler refuses on any queue, all have the options before. Changes are carried out one after the other. Ports that have
   * one handler together have its options together.
   *
   * NB: it also resolves if the handler has agreed and then fails to put them in place, on one queue or on all: the options stand.
   * An `error` event (ERR_HANDLER) says why, and another worker begins with them. Until then that queue is without the handler.
   *
   * @returns all options then
   * @throws ERR_HANDLER_FIXED: the handler takes no other options; ERR_HANDLER_REFUSED, and other errors of this package that it
   *   throws, most often ERR_OPTION_INVALID: why it refuses, or that a worker ended before it had agreed; ERR_OPTION_INVALID if
   *   they cannot be cloned; ERR_TIMEOUT: no worker runs the handler; ERR_PORT_CLOSED
   */
  async setHandlerOptions(change: Record<string, unknown>): Promise<Record<string, unknown>> {
    plainObject('handlerOptions', change);
    const question = { kind: 'handler options', port: this.#number, change } as const;
    cloneable('handlerOptions', change);
    return (await this.#group.ask(question)) as Record<string, unknown>;
  }

  /**
   * Posts a message to the handler, which its method `message` gets, on one queue or on all. Resolves when each of them has had it.
   *
   * @param value anything that survives a structured clone
   * @throws ERR_MESSAGE: the worker has ended, its handler has thrown or has no `message`, or 1024 messages wait for it;
   *   ERR_OPTION_INVALID; ERR_PORT_CLOSED
   */
  async postMessage(value: unknown, options: { readonly queue?: number } = {}): Promise<void> {
    onlyKnown(plainObject('options', options), ['queue'], "It has 'queue'.");
    const { queue } = options;
    const { queues } = this.#group.memory.layout.geometry;
    if (queue !== undefined) wholeNumber('queue', queue, 0, queues - 1, 'a queue');
    await this.#group.postMessage(this.#number, value, queue);
  }

  /** Lets packets in, if the port was opened or left without. As `configure({ started: true })`. */
  async start(): Promise<void> {
    await this.configure({ started: true });
  }

  /**
   * Leaves the traffic to the kernel, as without a port. What has arrived is handled first. All stays configured, and
   * {@link start} goes on. As `configure({ started: false })`.
   */
  async stop(): Promise<void> {
    await this.configure({ started: false });
  }

  /**
   * Packets with the verdict DELIVER, and those with TEE beside another, in bursts of what a queue has, up to 256, until the port is
   * closed. Nothing is copied and no object is made for a packet: a burst is good until the next step of the iteration. A port has
   * one reader at a time.
   *
   * @throws ERR_OPTION_INVALID if it has another reader; AbortError
   */
  bursts(options?: DeliveryOptions): AsyncGenerator<DeliveredBurst, void> {
    return this.#deliveries.bursts(options);
  }

  /** The same packets one after the other, each copied: the application may keep it. As {@link bursts}. */
  packets(options?: DeliveryOptions): AsyncGenerator<DeliveredPacket, void> {
    return this.#deliveries.packets(options);
  }

  /** The copies in batches of as many packets as a queue has. */
  batches(options?: DeliveryOptions): AsyncGenerator<DeliveredPacket[], void> {
    return this.#deliveries.batches(options);
  }

  /** The copies as a stream of objects. */
  readable(options?: DeliveryOptions): Readable {
    return this.#deliveries.readable(options);
  }

  /**
   * Counters of packets and bytes since the port was opened. Reads the shared memory and asks no other thread: may be called
   * at any rate, and after close. The kernel's own counters are up to 500 ms old.
   *
   * @param since an earlier result of this port: what has been counted since then. The counters themselves are never reset
   */
  stats(since?: PortStatistics): PortStatistics {
    const now = portStatistics(this.#group.memory, this.#number);
    return since === undefined ? now : statisticsSince(now, since);
  }

  /**
   * Statistics by name, with the devices' own: the kernel's of each device, and the driver's, as `ethtool -S` shows them. A
   * counter never decreases and never disappears, over any number of failovers. After the first call, a VF is read once more
   * before it leaves; what it counts when it disappears without a warning is missing. The coordinator asks the kernel, and
   * some drivers ask their firmware: call it at most once a second.
   *
   * @throws ERR_PORT_CLOSED, ERR_KERNEL
   */
  async extendedStats(): Promise<ExtendedStatistics> {
    const readings = (await this.#group.ask({ kind: 'counters', port: this.#number })) as CounterReadings;
    return this.#history.read(readings);
  }

  /** The last 1024 changes of path, one record per queue, oldest first. */
  failovers(): Failover[] {
    return this.#group.journal.since(0).filter(({ port }) => port === this.#number);
  }

  /**
   * Asks each worker, at its next burst boundary, where its frames are. Returns one ledger per queue. A worker whose handler
   * does not return does not answer; the worker that replaces it does.
   *
   * @throws TwinpathError ERR_PORT_CLOSED
   */
  audit(): Promise<FrameLedger[]> {
    return this.#group.audit();
  }

  /**
   * Releases the devices in order and ends the threads. Ports opened together close together. Packets that have arrived are
   * still handled. Resolves when all resources are released. A worker whose handler does not return is terminated after 5 s.
   * May be called again.
   */
  async close(): Promise<void> {
    await this.#group.close();
    await this.#replay?.stop();
  }

  /** The same as {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Resolves when `twinpath ps` and the commands beside it can attach to the port, or when it has no control socket. The socket is
   * opened at once, not in the first moments of a port's life; why it cannot be, is an `error` event.
   */
  attachable(): Promise<void> {
    return this.#group.attachable();
  }

  /** Path of the control socket ({@link SharedOptions.control}); undefined without one, and in the first moments. */
  get controlSocket(): string | undefined {
    return this.#group.controlSocket;
  }

  /** The memory that the datapath runs in: for memory networks and benchmarks. */
  get shared(): SharedMemory {
    return this.#group.memory.shared;
  }

  /**
   * Memory network only: a device appears on that path. With any other network an 'error' event follows.
   *
   * @throws TwinpathError ERR_PORT_CLOSED
   */
  plug(path: MemoryPath, name: string = path): void {
    this.#group.send({ kind: 'plug', port: this.#number, path, name });
  }

  /** Memory network only: the device of that path disappears. As {@link plug}. */
  unplug(path: MemoryPath): void {
    this.#group.send({ kind: 'unplug', port: this.#number, path });
  }

  /**
   * Network of a file only: resolves when the file is through and every packet of it is accounted for: handled, and what was
   * sent is in the file that was asked for. The port stays open, and its counters are final unless its handler sends by itself.
   * May be called at any time, and again.
   *
   * @throws ERR_CAPTURE_FILE if the file is damaged (packets before that were played) or the other cannot be written;
   *   ERR_OPTION_INVALID with any other network; ERR_PORT_CLOSED if the port was closed before
   */
  async replayed(): Promise<ReplayReport> {
    if (this.#replay === undefined) return invalid('network', 'it is no file: nothing is replayed');
    return this.#replay.done;
  }

  /** For the option `forwardTo` of another `openPort`. */
  get route(): ForwardTarget['route'] {
    return { shared: this.shared, port: this.#number, from: 0 };
  }

  #emit(reported: ReportedEvent): void {
    if (reported.kind === 'path' || reported.kind === 'link' || reported.kind === 'worker')
      publish(reported.kind, this.device, reported.event);
    switch (reported.kind) {
      case 'path':
        this.emit('path', reported.event);
        return;
      case 'link':
        this.#description = { ...this.#description, paths: reported.paths };
        this.emit('link', reported.event);
        return;
      case 'carrier': {
        const { up, speedMbps, duplex } = reported.event;
        const link: LinkState = { up, speedMbps, duplex };
        // A coordinator that replaces another one reports the state anew.
        if (sameLink(link, this.#description.link)) return;
        this.#description = { ...this.#description, link };
        this.emit('carrier', reported.event);
        return;
      }
      case 'configured':
        this.#configuration = reported.event.configuration;
        return;
      case 'counted':
        this.#history.read(reported.event.readings);
        return;
      case 'worker':
        this.emit('worker', reported.event);
        return;
      case 'maintenance':
        this.emit('maintenance', reported.event);
        return;
      case 'error': {
        const error = TwinpathError.from(reported.event);
        if (this.listenerCount('error') > 0) this.emit('error', error);
        else process.emitWarning(error);
        return;
      }
    }
  }
}

/**
 * Opens one port over a NetVSC and its VF. Resolves when every worker polls and the synthetic path carries packets. From then
 * on the port uses the VF whenever it exists.
 *
 * @throws TwinpathError: ERR_NOT_LINUX, before anything else; ERR_OPTION_UNKNOWN, ERR_OPTION_INVALID, ERR_HANDLER,
 *   ERR_NO_NETVSC, ERR_DEVICE_NOT_FOUND, ERR_DEVICE_NOT_NETVSC, ERR_DEVICE_AMBIGUOUS, ERR_DEVICE_IN_USE, ERR_DEVICE_BUSY,
 *   ERR_PERMISSION, ERR_NO_TUN, ERR_SHIM_MISSING, ERR_SHIM_LOAD, ERR_SHIM_ABI, ERR_START, ERR_KERNEL; the machine is then
 *   as it was before
 */
export async function openPort(options: OpenPortOptions): Promise<Port> {
  requireLinux();
  const [port] = await openPorts(single(options));
  return port!;
}

/**
 * Opens several ports with one set of workers: worker i serves queue i of each. Without `ports`, one on every NetVSC that the
 * machine does not use. Throws as `openPort`.
 */
export async function openPorts(options: OpenPortsOptions): Promise<Port[]> {
  requireLinux();
  const settings = settingsOf(options);
  const { signal } = options;
  signal?.throwIfAborted();
  loadShim(); // builds it, once, if necessary; an error thrown on this thread keeps its class
  const replay = settings.replay && (await Replay.open(settings.replay, settings.ports.length));
  try {
    signal?.throwIfAborted();
    const group = startGroup(settings);
    // Also while it opens: the import of a handler's module may never finish.
    signal?.addEventListener('abort', () => void group.close(), { once: true });
    const descriptions = await group.ready().catch((error) => {
      signal?.throwIfAborted();
      throw startFailure(error) ?? error;
    });
    const ports = descriptions.map((description, number) => new Port(group, number, description, replay));
    if (signal?.aborted) {
      await group.close();
      signal.throwIfAborted();
    }
    // Once the application can have begun to read what is delivered to it.
    if (replay !== undefined) setImmediate(() => replay.start(group));
    return ports;
  } catch (error) {
    await replay?.stop();
    throw error;
  }
}

function settingsOf(options: OpenPortsOptions): Settings {
  const { ports = 'all' } = options ?? {};
  return ports === 'all' ? validate(onFreePairs(options), true) : validate(options);
}

/** @throws ERR_START when Node starts no thread */
function startGroup(settings: Settings): Group {
  try {
    return new Group(settings);
  } catch (error) {
    throw startFailure(error) ?? error;
  }
}
