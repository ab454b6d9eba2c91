/**
 * Opening one path: its device, then the workers, then packets. A path that cannot be opened is reported once per reason
 * and tried again for as long as its device exists. Coordinator thread only.
 *
 * A VF is opened as soon as its device appears, and stays open while its link is down. Many network cards reset themselves
 * when an XDP program is attached or detached, which costs them their carrier for seconds, and what they receive meanwhile.
 * So nothing is left to open when the host begins to deliver through the VF: until then the path only waits for its link.
 */
import { TwinpathError } from '../errors.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { configurePath, followMacs } from './configure.ts';
import type { Endpoint } from './network.ts';
import type { PathChecks } from './path-checks.ts';
import { attempt, type PortState, reportError, reportLink } from './port-state.ts';
import { react } from './react.ts';
import { pauseBeforeRetry, type Slot, unusable } from './slot.ts';

/** How often a path that waits for its link asks the kernel for it, in ms. */
const LINK_CHECK_MILLIS = 250;
/** A path's failure to open is reported when it has lasted so long. */
const REPORT_NANOS = 500e6;

export class PathOpener {
  readonly #state: PortState;
  readonly #checks: PathChecks;
  /** The first error of opening a path: `ManagedPort.start` throws it if the port has no synthetic path. */
  firstError: TwinpathError | undefined;

  constructor(state: PortState, checks: PathChecks) {
    this.#state = state;
    this.#checks = checks;
  }

  /**
   * Opens a path whose device exists. Once the device has a link, and the port is started, lets packets in.
   *
   * @returns whether the loop has to run again
   */
  async open(slot: Slot): Promise<boolean> {
    if (slot.ready || slot.broken !== undefined) return false;
    const { network, ownership } = this.#state;
    const endpoint = network.endpoint(slot.path);
    if (slot.device === undefined && !this.#mayOpen(slot, endpoint)) return false;
    try {
      if (slot.device === undefined) this.#openDevice(slot, endpoint!);
      // Before there is a link: a zero-copy driver receives into our frames from its first packet on.
      if (!ownership.isAttached(slot.path)) await ownership.attach(slot.path, slot.key);
      if (!this.#state.configuration.started && slot.broken === undefined) return false;
      if (slot.broken === undefined) {
        if (!this.#hasLink(slot, network.endpoint(slot.path))) return false;
        await this.#provideOwner(slot);
      }
      if (slot.broken === undefined) {
        slot.device!.settle?.(); // a driver may have made its own settings when it was set up
        slot.device!.arm();
      }
    } catch (error) {
      await this.failed(slot, error);
      return false;
    }
    return slot.broken !== undefined || this.#opened(slot);
  }

  /** Closes a path that could not be opened, and has it tried again. */
  async failed(slot: Slot, error: unknown): Promise<void> {
    const { network, ownership } = this.#state;
    const known =
      error instanceof TwinpathError
        ? error
        : new TwinpathError('ERR_KERNEL', { device: network.device, detail: String(error) });
    const device = slot.device;
    if (slot.broken === undefined) react(this.#state, slot, 'path failed');
    await ownership.settled();
    if (device !== undefined) attempt(this.#state, 'closing a path', () => device.close());
    await ownership.reclaim(slot.path);
    slot.device = undefined;
    slot.broken = undefined;
    this.#state.save();
    const now = network.endpoint(slot.path);
    if (slot.path === Path.VF && now?.key === slot.key && unusable(slot.path, now) !== undefined) {
      slot.needsLink = slot.key; // the device may accept all that only while its link is up
      return;
    }
    if (network.exclude?.(slot.path, slot, known)) return;
    this.firstError ??= known;
    slot.failingSince ||= nowNanos();
    // A failure that passes by itself is not reported: a device disappeared while it was opened, which its DELLINK says; or
    // the kernel had not released a queue yet, since a work item does that later (xp_put_pool).
    const lasts = nowNanos() - slot.failingSince >= REPORT_NANOS;
    if (lasts && now !== undefined && now.key === slot.key && slot.reported !== known.message) {
      slot.reported = known.message;
      reportError(this.#state, known);
      reportLink(this.#state, slot, 'failed', known.message, now.name);
    }
    this.retryLater(slot);
  }

  retryLater(slot: Slot): void {
    const pause = pauseBeforeRetry(slot.failures++);
    slot.retryAt = nowNanos() + pause * 1e6;
    this.#changedIn(slot, 'opening a path', pause + 1);
  }

  #mayOpen(slot: Slot, endpoint: Endpoint | undefined): boolean {
    if (slot.path === Path.VF && this.#state.aside) return false;
    const unlinked = endpoint !== undefined && unusable(slot.path, endpoint) !== undefined;
    if (endpoint === undefined || (unlinked && (slot.path !== Path.VF || slot.needsLink === endpoint.key))) {
      slot.failures = slot.failingSince = 0;
      slot.reported = '';
      return false;
    }
    if (endpoint.key !== slot.key) slot.failures = slot.failingSince = slot.retryAt = 0;
    return nowNanos() >= slot.retryAt;
  }

  #openDevice(slot: Slot, endpoint: Endpoint): void {
    slot.device = this.#state.network.make(slot.path, endpoint);
    slot.device.changed = this.#state.save;
    slot.key = endpoint.key;
    slot.device.open();
    configurePath(this.#state, slot);
    followMacs(this.#state, true);
  }

  /**
   * Whether the link is up. For a VF the kernel is asked: the device may have reset itself when it was opened, and messages
   * about a carrier come late, or not at all if it was away for a moment (net/core/link_watch.c).
   */
  #hasLink(slot: Slot, known: Endpoint | undefined): boolean {
    const { path, key } = slot;
    if (path !== Path.VF) return true;
    if (known === undefined || unusable(path, known) !== undefined) return false; // a message will come
    const now = this.#state.network.query(path);
    if (now?.key === key && unusable(path, now) === undefined) return true;
    this.#changedIn(slot, 'querying a link', LINK_CHECK_MILLIS);
    return false;
  }

  /**
   * A received packet may be answered: so some path transmits before the first path lets packets in. It does not wait for
   * the next path, since opening that may take long.
   */
  async #provideOwner({ path }: Slot): Promise<void> {
    const { ownership } = this.#state;
    if (path === Path.HOST || ownership.owner !== Path.NONE) return;
    await ownership.setOwner(path, 'start', nowNanos());
  }

  #opened(slot: Slot): boolean {
    slot.ready = true;
    slot.failingSince = 0;
    slot.openedAt = nowNanos();
    slot.reported = '';
    this.#state.save();
    this.#state.ownership.ready(slot.path);
    reportLink(this.#state, slot, 'up', slot.device!.description.generic);
    return this.#checks.maintain(true);
  }

  #changedIn(slot: Slot, task: string, millis: number): void {
    const { run, changed } = this.#state;
    clearTimeout(slot.retry);
    slot.retry = setTimeout(() => run(task, changed), millis);
  }
}
