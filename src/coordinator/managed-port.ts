/**
 * One port, as the coordinator manages it: two paths that come and go, and the one that owns the queues.
 *
 * A failover has two halves. **React** (port-failover.ts): the supervisor's thread orders the workers off a lost path, and
 * tells this one. **Reconcile** (reconcile.ts): everything slow runs here, in a single serial loop, which opens and closes
 * paths until they agree with the devices that exist.
 *
 * This file takes what happens to the port: changed links, changed settings, paths that were left, and commands.
 */

import {
  type CheckedChange,
  type ConfigurationChange,
  checkChange,
  type PortConfiguration,
} from '../configuration.ts';
import { TwinpathError } from '../errors.ts';
import type { CounterReadings } from '../kernel/device-counters.ts';
import type { RuleCounts } from '../kernel/kernel-rules.ts';
import { PATH_NAMES, Path, type PathId } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import type { OpenPaths } from '../port-events.ts';
import { followMacs, startFilters } from './configure.ts';
import { readCounters } from './counter-readings.ts';
import type { KernelDrops } from './kernel-drops.ts';
import { LinkStatus } from './link-status.ts';
import type { PortDescription } from './messages.ts';
import type { PortNetwork } from './network.ts';
import type { OwnershipClient } from './ownership-client.ts';
import { PathChecks } from './path-checks.ts';
import type { LeftPath } from './path-orders.ts';
import { type PortInformation, portInformation } from './port-information.ts';
import { openPaths, type PortServices, type PortState, reportError } from './port-state.ts';
import { failureOf, react } from './react.ts';
import { Reconciler } from './reconcile.ts';
import { isLinkLoss, newSlot, waitsForLink } from './slot.ts';

/**
 * The order in which paths are opened; they are closed the other way round. The host path is open before a packet can be
 * passed, and as long. What the VF leaves unsent still goes out through the synthetic path.
 */
const ORDER = [Path.HOST, Path.SYNTHETIC, Path.VF] as const;

/** What another coordinator needs to take the port over. Plain data. */
export interface PortHoldings {
  readonly network: unknown;
  readonly configuration: PortConfiguration;
  readonly slots: readonly {
    readonly path: PathId;
    readonly key: number;
    readonly ready: boolean;
    /** `PathDevice.holdings`; undefined without a device. */
    readonly device: unknown;
    readonly drops: KernelDrops['holdings'];
  }[];
}

export class ManagedPort {
  readonly network: PortNetwork;
  readonly #state: PortState;
  readonly #checks: PathChecks;
  readonly #linkStatus: LinkStatus;
  readonly #reconciler: Reconciler;

  constructor(
    memory: Memory,
    port: number,
    network: PortNetwork,
    ownership: OwnershipClient,
    services: PortServices,
  ) {
    this.network = network;
    this.#state = {
      ...services,
      memory,
      port,
      network,
      ownership,
      slots: ORDER.map((path) => newSlot(memory, port, path)),
      opens: false,
      aside: false,
      closing: false,
      counting: false,
      changed: () => this.changed(),
      reconcile: () => this.#reconciler.reconcile(),
    };
    this.#checks = new PathChecks(this.#state);
    this.#linkStatus = new LinkStatus(this.#state);
    this.#reconciler = new Reconciler(this.#state, this.#checks, this.#linkStatus);
  }

  get holdings(): PortHoldings {
    return {
      network: this.network.holdings,
      // The network has the rules: they may be longer than the checkpoint.
      configuration: { ...this.#state.configuration, rules: [] },
      slots: this.#state.slots.map(({ path, key, ready, device, drops }) => ({
        path,
        key,
        ready,
        device: device?.holdings,
        drops: drops.holdings,
      })),
    };
  }

  get configuration(): PortConfiguration {
    return this.#state.configuration;
  }

  get paths(): OpenPaths {
    return openPaths(this.#state);
  }

  /** For the application, once: changes of the link are reported from now on. */
  describe(): PortDescription {
    const { paths, configuration } = this;
    return { device: this.network.device, paths, configuration, link: this.#linkStatus.start() };
  }

  /** Before any path is opened: makes the rules and the MAC filter in the kernel. @throws TwinpathError */
  prepare(): void {
    startFilters(this.#state);
  }

  /**
   * Opens the paths whose devices exist. After the workers have started: until then {@link changed} opens none.
   *
   * @throws the error of the synthetic path, which a port needs, or what of its configuration that path's device refuses
   */
  async start(): Promise<void> {
    this.#state.opens = true;
    await this.changed();
    this.#checkOpen();
  }

  /** @throws as {@link start} */
  #checkOpen(): void {
    const { started } = this.configuration;
    const synthetic = this.#state.slots.find(({ path }) => path === Path.SYNTHETIC)!;
    const [refusal] = synthetic.refusals;
    if (refusal !== undefined) throw refusal;
    if (synthetic.ready || (!started && synthetic.device !== undefined)) return;
    throw (
      this.#reconciler.firstError ??
      new TwinpathError('ERR_DEVICE_DOWN', {
        device: this.network.device,
        hint: `Run "ip link set ${this.network.device} up"; it also needs a carrier.`,
      })
    );
  }

  /**
   * Takes over what another coordinator has opened. Nothing else happens here: {@link resume} closes a path that it was
   * opening or closing, and opens it again if it is needed.
   */
  adopt({ slots, configuration }: PortHoldings): void {
    this.#state.configuration = {
      ...configuration,
      rules: this.network.rules?.current?.given.rules ?? [],
    };
    for (const { path, key, ready, device, drops } of slots) {
      const slot = this.#state.slots.find((one) => one.path === path)!;
      slot.key = key;
      slot.drops.resume(drops);
      if (device === undefined) continue;
      slot.device = this.network.adopt(path, { key }, device);
      slot.device.changed = this.#state.save;
      slot.ready = ready;
    }
  }

  /** After {@link adopt}: closes what the last coordinator had half open, and what was left since, and reconciles. */
  resume(): Promise<void> {
    this.#state.opens = true;
    this.#linkStatus.resume();
    const { ownership, slots } = this.#state;
    for (const slot of slots) {
      if (slot.device === undefined) continue;
      if (slot.ready && ownership.isAttached(slot.path)) ownership.ready(slot.path);
      else react(this.#state, slot, 'coordinator replaced'); // the supervisor may say more: see `left`
    }
    return this.changed();
  }

  /** The supervisor has ordered the workers off a path: it is to be closed. */
  left({ path, reason, kickErrno }: LeftPath): Promise<void> {
    const { ownership, slots } = this.#state;
    ownership.left(path);
    const slot = slots.find((one) => one.path === path)!;
    const served = slot.ready && slot.broken === 'coordinator replaced'; // while the last coordinator lived
    if (slot.device !== undefined && (served || slot.broken === undefined)) {
      slot.broken = reason;
      slot.kickErrno = kickErrno;
    }
    this.#linkStatus.noticeLoss();
    return this.#reconciler.reconcile();
  }

  /**
   * Links have changed: reacts at once, then reconciles. Resolves when the open paths agree with the devices that exist.
   *
   * @param gone ifindexes that disappeared since the last call
   * @param downed ifindexes that went down since then
   */
  changed(gone?: ReadonlySet<number>, downed?: ReadonlySet<number>): Promise<void> {
    const now = nowNanos();
    for (const slot of this.#state.slots) {
      if (slot.device === undefined || slot.broken !== undefined) continue;
      const reason = failureOf(this.#state, slot, gone, downed);
      if (reason === undefined || (isLinkLoss(reason) && waitsForLink(slot))) continue;
      react(this.#state, slot, reason, now);
    }
    this.#linkStatus.noticeLoss();
    this.#checks.maintain(false);
    this.#reportChanges();
    followMacs(this.#state);
    return this.#reconciler.reconcile();
  }

  /** A program, this one or another, has changed settings of a device: of any if `ifindex` is undefined. */
  settingsChanged(ifindex: number | undefined): Promise<void> {
    this.#linkStatus.doubt();
    for (const slot of this.#state.slots)
      slot.settingsChanged ||= ifindex === undefined || slot.key === ifindex;
    return this.#reconciler.reconcile();
  }

  /**
   * Changes the configuration of the port, and of all its open paths. Paths that are opened later get it before their
   * packets are let in.
   *
   * @returns the configuration then
   * @throws ERR_DEVICE_SETTINGS, the first refusal of a device: all are as they were before. ERR_PORT_CLOSED. When it starts
   *   the port also as {@link start}; the port goes on trying
   */
  async configure(change: CheckedChange): Promise<PortConfiguration> {
    const configuration = await this.#reconciler.configure(change);
    if (change.started === undefined) return configuration;
    await this.#reconciler.reconcile(); // packets are let in, or are not any more
    this.#checkOpen();
    return configuration;
  }

  /** Leaves the VF, or lets it be used again. Resolves when that is done. */
  setAside(aside: boolean): Promise<void> {
    this.#state.aside = aside;
    return this.#reconciler.reconcile();
  }

  /** See {@link portInformation}. */
  information(): PortInformation {
    return portInformation(this.#state);
  }

  /** What the devices count. May take long. @throws ERR_KERNEL */
  counters(): CounterReadings {
    return readCounters(this.#state);
  }

  /** A worker doubts a link: see {@link PathChecks.checkLinks}. */
  checkLinks(): void {
    this.#checks.checkLinks();
  }

  /** Reads the kernel's counters into the shared memory, now and then: see {@link PathChecks.count}. */
  count(): void {
    this.#checks.count();
  }

  /** Closes all paths in order. The kernel has its interfaces back afterwards. */
  async close(): Promise<void> {
    this.#state.closing = true;
    for (const { retry } of this.#state.slots) clearTimeout(retry);
    await this.#reconciler.reconcile();
    this.network.rules?.close();
    this.network.macFilter?.close();
    this.#state.save(); // their descriptors are closed
  }

  /** Packets and bytes of each rule; undefined without rules. @throws ERR_KERNEL */
  get ruleCounts(): RuleCounts | undefined {
    return this.network.rules?.counts;
  }

  /** Names, MAC addresses and MTUs that have changed. */
  #reportChanges(): void {
    const { port, report, slots, configuration, closing } = this.#state;
    const synthetic = slots.find(({ path }) => path === Path.SYNTHETIC)!;
    const isOpen = synthetic.device !== undefined && synthetic.broken === undefined;
    for (const { path, device, detail, value, error } of this.network.observe()) {
      // What the port has set itself, or puts back, is no news.
      const reopens = !configuration.started && !isOpen;
      if (value !== undefined && (closing || reopens || isConfigured(value, configuration))) continue;
      if (path === Path.SYNTHETIC && value !== undefined && isOpen) this.#follow(value);
      const event = { port, path: PATH_NAMES[path], device, state: 'changed', detail } as const;
      report({ kind: 'link', event, paths: this.paths });
      if (error !== undefined) reportError(this.#state, error);
    }
  }

  /** Another program has given the NetVSC a value that the port has configured: the port takes it, for the VF too. */
  #follow(value: Pick<ConfigurationChange, 'mtu' | 'mac'>): void {
    const { configuration, run, memory } = this.#state;
    const others = Object.entries(value).filter(([name, now]) => {
      const ours = configuration[name as keyof typeof value];
      return ours !== null && ours !== now;
    });
    if (others.length === 0) return;
    run('following settings', async () => {
      const { frameSize, queues } = memory.layout.geometry;
      const change = checkChange(Object.fromEntries(others), frameSize, queues);
      await this.#reconciler.configure(change, true);
    });
  }
}

function isConfigured(
  value: Pick<ConfigurationChange, 'mtu' | 'mac'>,
  configuration: PortConfiguration,
): boolean {
  return Object.entries(value).every(([name, now]) => configuration[name as keyof typeof value] === now);
}
