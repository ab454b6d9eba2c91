/**
 * Reconcile: the slow half of a failover. One serial loop per port compares the devices that exist with the paths that are
 * open until they agree: it closes sockets, opens devices, waits for workers. An event that comes meanwhile only marks the
 * port dirty; so every event may come twice, late or in any order. Coordinator thread only.
 */
import type { CheckedChange, PortConfiguration } from '../configuration.ts';
import type { TwinpathError } from '../errors.ts';
import { Path } from '../memory/layout.ts';
import { nowNanos } from '../memory/shared.ts';
import { closePath } from './close-path.ts';
import { type ConfigurationOrder, carryOut } from './configure.ts';
import type { LinkStatus } from './link-status.ts';
import { PathOpener } from './open-path.ts';
import type { PathChecks } from './path-checks.ts';
import { attempt, type PortState, reportError } from './port-state.ts';
import { react } from './react.ts';
import type { Slot } from './slot.ts';

export class Reconciler {
  readonly #state: PortState;
  readonly #opener: PathOpener;
  readonly #linkStatus: LinkStatus;
  #running: Promise<void> | undefined;
  #orders: ConfigurationOrder[] = [];
  #dirty = false;

  constructor(state: PortState, checks: PathChecks, linkStatus: LinkStatus) {
    this.#state = state;
    this.#linkStatus = linkStatus;
    this.#opener = new PathOpener(state, checks);
  }

  /** See {@link PathOpener.firstError}. */
  get firstError(): TwinpathError | undefined {
    return this.#opener.firstError;
  }

  /** Resolves when the open paths agree with the devices that exist. */
  reconcile(): Promise<void> {
    this.#dirty = true;
    this.#running ??= this.#loop();
    return this.#running;
  }

  /** See `ManagedPort.configure`. @param followed whether another program has made the change on the NetVSC */
  configure(change: CheckedChange, followed = false): Promise<PortConfiguration> {
    return new Promise((resolve, reject) => {
      this.#orders.push({ change, followed, resolve, reject });
      this.reconcile().catch(reject);
    });
  }

  async #loop(): Promise<void> {
    await undefined; // `#running` is set before the loop can end and clear it
    const { slots } = this.#state;
    try {
      while (this.#dirty) {
        this.#dirty = false;
        for (const slot of slots) if (slot.broken !== undefined) await this.#close(slot);
        for (const order of this.#orders.splice(0)) await carryOut(this.#state, order);
        if (this.#state.closing) {
          await this.#closeAll('close');
          continue;
        }
        if (!this.#state.configuration.started) await this.#closeAll('stopped');
        if (this.#state.aside) await this.#leaveVf();
        for (const slot of slots) this.#restoreSettings(slot);
        for (const slot of slots) {
          if (this.#state.opens && (await this.#opener.open(slot))) this.#dirty = true;
        }
        await this.#selectOwner();
        this.#enableInline();
        this.#linkStatus.update();
      }
    } finally {
      this.#running = undefined;
    }
  }

  async #close(slot: Slot): Promise<void> {
    this.#dirty = true;
    await closePath(this.#state, slot, this.#opener);
  }

  /** 'stopped': those that let packets in. */
  async #closeAll(reason: 'close' | 'stopped'): Promise<void> {
    const { slots } = this.#state;
    // The machine's own stack transmits through the NetVSC again before the workers stop transmitting for it.
    for (const { device } of slots)
      attempt(this.#state, 'leaving inline mode', () => device?.disableInline?.());
    for (const slot of slots.toReversed()) {
      if (slot.device === undefined || (reason === 'stopped' && !slot.ready)) continue;
      if (slot.broken === undefined) react(this.#state, slot, reason);
      await this.#close(slot);
    }
  }

  /** What still arrives at the VF the kernel gives to the NetVSC, and so to the synthetic path. */
  async #leaveVf(): Promise<void> {
    const vf = this.#state.slots.find(({ path }) => path === Path.VF)!;
    if (vf.device === undefined) return;
    if (vf.broken === undefined) react(this.#state, vf, 'maintenance');
    await this.#close(vf);
  }

  /** Makes the settings that a path needs again. A path that cannot go on without them is closed and opened again. */
  #restoreSettings(slot: Slot): void {
    if (!slot.settingsChanged) return;
    slot.settingsChanged = false;
    if (slot.device === undefined || slot.broken !== undefined) return;
    try {
      slot.device.settle?.();
    } catch (error) {
      this.#fail(slot, error);
    }
  }

  /** The VF owns the queues while it is there, the synthetic path else. */
  async #selectOwner(): Promise<void> {
    const { slots, ownership } = this.#state;
    const usable = slots.filter(
      ({ path, ready, broken }) => path !== Path.HOST && ready && broken === undefined,
    );
    const best = usable.find(({ path }) => path === Path.VF) ?? usable[0];
    const next = best?.path ?? Path.NONE;
    const { owner } = ownership;
    if (next === owner) return;
    await ownership.setOwner(next, owner === Path.NONE ? 'start' : 'path ready', nowNanos());
  }

  /** Lets in what the machine's own stack transmits, once a path can transmit it. */
  #enableInline(): void {
    const { slots, ownership } = this.#state;
    const host = slots.find(({ path }) => path === Path.HOST)!;
    if (!host.ready || host.broken !== undefined) return;
    if (ownership.owner === Path.NONE) {
      // The kernel may still have a way out by itself.
      attempt(this.#state, 'leaving inline mode', () => host.device!.disableInline?.());
      return;
    }
    try {
      host.device!.enableInline?.();
    } catch (error) {
      this.#fail(host, error);
    }
  }

  #fail(slot: Slot, error: unknown): void {
    react(this.#state, slot, 'path failed');
    this.#dirty = true;
    reportError(this.#state, error);
  }
}
