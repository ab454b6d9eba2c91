/**
 * One port, as the coordinator keeps it: two paths that come and go, and the one that owns the queues.
 *
 * Two speeds. **React**: when a path is found to be gone, the workers are ordered off it at once, in the
 * same turn of the event loop. **Reconcile**: everything slow (closing sockets, opening devices, waiting for
 * workers) runs one step after the other in a single serial loop per port, which compares what there is with
 * what is open until they agree. Whatever happens in between only marks the port dirty; so every event may
 * come twice, late or in any order.
 *
 * A path that cannot be opened is reported once per reason and tried again for as long as its device exists.
 *
 * A VF is opened as soon as it is there, and stays open while its link is away: many network cards reset themselves when
 * an XDP program comes or goes, which takes their carrier for seconds and what they receive meanwhile. So nothing is left
 * to open when the host begins to deliver by it; until the link is there the path only waits.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoName, TwinpathError } from '../errors.ts';
import { pathCounters } from '../memory/counters.ts';
import type { Reason } from '../memory/journal.ts';
import { Doubt, PATH_NAMES, Path, type PathId } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import type { PathDescription, PathDevice } from '../paths/device.ts';
import { Bypass } from './bypass.ts';
import type { KernelDrops } from './kernel-drops.ts';
import { type LinkNews, type PlainError, plain } from './messages.ts';
import type { Endpoint, PortNetwork } from './network.ts';
import type { Ownership } from './ownership.ts';
import { newSlot, pauseBeforeRetry, type Slot, unusable } from './slot.ts';

/** A path that breaks before it has been open for so long is tried again ever more rarely. */
const STEADY_NANOS = 10e9;
/** Pauses between tries to open queues anew grow up to this, in ms. */
const MAX_PAUSE = 256;
/** A path that waits for its link looks for it so often, in ms. */
const LOOK_MILLIS = 250;
/** A failure to open is told when it has lasted so long. */
const PASSING_NANOS = 500e6;

/**
 * In which order paths are opened, and the other way round closed. The host path is there before anything can
 * be passed by it, and as long; and what the VF leaves unsent still goes out by the synthetic path.
 */
const ORDER = [Path.HOST, Path.SYNTHETIC, Path.VF] as const;

export interface PortEvents {
  link(news: LinkNews): void;
  error(error: PlainError): void;
  /** What the port holds has changed: it is to be written down before anything else is done. */
  changed(): void;
  /** Runs work that the port starts by itself; what it throws is reported. */
  guard(what: string, work: () => void | Promise<void>): void;
}

/** What another coordinator needs to go on with a port. Plain data. */
export interface PortHoldings {
  readonly network: unknown;
  readonly slots: readonly {
    readonly path: PathId;
    readonly key: number;
    readonly ready: boolean;
    /** `PathDevice.holdings`; undefined if there is no device. */
    readonly device: unknown;
    readonly drops: KernelDrops['holdings'];
  }[];
}

export class ManagedPort {
  readonly port: number;
  readonly network: PortNetwork;
  readonly #memory: Memory;
  readonly #ownership: Ownership;
  readonly #events: PortEvents;
  readonly #slots: readonly Slot[];
  readonly #bypass = new Bypass();
  #running: Promise<void> | undefined;
  #dirty = false;
  #closing = false;
  /** The first error of opening a path: what `start` throws if there is no port in the end. */
  #startError: TwinpathError | undefined;

  constructor(memory: Memory, port: number, network: PortNetwork, ownership: Ownership, events: PortEvents) {
    this.#memory = memory;
    this.port = port;
    this.network = network;
    this.#ownership = ownership;
    this.#events = events;
    this.#slots = ORDER.map((path) => newSlot(memory, port, path));
  }

  get holdings(): PortHoldings {
    return {
      network: this.network.holdings,
      slots: this.#slots.map(({ path, key, ready, device, drops }) => ({
        ...{ path, key, ready, device: device?.holdings, drops: drops.holdings },
      })),
    };
  }

  /**
   * Goes on with what another coordinator has opened. A path that it was opening or closing is closed, and opened again
   * if it is to be used. `changed` does all that; nothing happens here.
   */
  adopt({ slots }: PortHoldings): void {
    this.#ownership.resume();
    for (const { path, key, ready, device, drops } of slots) {
      const slot = this.#slots.find((one) => one.path === path)!;
      slot.key = key;
      slot.drops.resume(drops);
      if (device === undefined) continue;
      slot.device = this.network.adopt(path, { key }, device);
      slot.device.changed = this.#events.changed;
      slot.ready = ready;
    }
  }

  /** What the open paths turned out to be. */
  get paths(): Partial<Record<(typeof PATH_NAMES)[number], PathDescription>> {
    const open = this.#slots.filter(({ ready }) => ready);
    return Object.fromEntries(open.map(({ path, device }) => [PATH_NAMES[path], device!.description]));
  }

  /** Opens what there is. @throws the error of the synthetic path, without which there is no port */
  async start(): Promise<void> {
    await this.changed();
    const synthetic = this.#slots.find(({ path }) => path === Path.SYNTHETIC)!;
    if (synthetic.ready) return;
    throw (
      this.#startError ??
      new TwinpathError('ERR_DEVICE_DOWN', {
        device: this.network.device,
        hint: `Run "ip link set ${this.network.device} up"; it also needs a carrier.`,
      })
    );
  }

  /** The world changed: react at once, then reconcile. Resolves when the port agrees with the world. */
  changed(gone: ReadonlySet<number> = new Set(), downed: ReadonlySet<number> = new Set()): Promise<void> {
    const now = nowNanos();
    for (const slot of this.#slots) {
      if (slot.device === undefined || slot.broken !== undefined) continue;
      const reason = this.#whatIsWrong(slot, gone, downed);
      if (reason !== undefined && !(isOfLink(reason) && waits(slot))) this.#react(slot, reason, now);
    }
    this.#tend(false);
    for (const { path, device, detail, error } of this.network.observe()) {
      this.#events.link({ port: this.port, path: PATH_NAMES[path], device, state: 'changed', detail });
      if (error !== undefined) this.#events.error(error.toJSON());
    }
    return this.#reconcile();
  }

  /** Somebody has changed settings of a device, ours or not: undefined for any. It is looked at in its turn. */
  resettled(ifindex: number | undefined): Promise<void> {
    for (const slot of this.#slots) slot.unsettled ||= ifindex === undefined || slot.key === ifindex;
    return this.#reconcile();
  }

  /** After {@link adopt}: closes what the last coordinator had half open, and agrees with the world again. */
  resume(): Promise<void> {
    for (const slot of this.#slots) {
      if (slot.device === undefined) continue;
      if (slot.ready && this.#ownership.isAttached(slot.path)) continue;
      this.#react(slot, 'coordinator replaced', nowNanos());
    }
    return this.changed();
  }

  /** A worker rang: acknowledgements, or a kick that failed before rtnetlink told why. */
  hearWorkers(): void {
    const { words, layout } = this.#memory;
    this.#ownership.check();
    for (const slot of this.#slots) {
      if (!slot.ready || slot.broken !== undefined) continue;
      for (let queue = 0; queue < layout.geometry.queues; queue++) {
        const block = this.#memory.queue(this.port, queue);
        slot.errno = Atomics.load(words, block.kickErrnoAt(slot.path));
        if (slot.errno === 0) continue;
        this.#react(slot, 'kick failed', nowNanos());
        this.#events.guard('closing a path', () => this.#reconcile());
        break;
      }
    }
    // Looking may take long: not before those that have failed are left.
    for (const slot of this.#slots) {
      if (!slot.ready || slot.broken !== undefined || !this.#isDoubted(slot)) continue;
      this.#events.guard('looking at a link', () => this.#lookAtLink(slot));
    }
  }

  #doubts(path: PathId): number[] {
    const { layout } = this.#memory;
    const queues = Array.from({ length: layout.geometry.queues }, (_, queue) => queue);
    return queues.map((queue) => this.#memory.slot({ port: this.port, queue, path }).at('doubt'));
  }

  #isDoubted({ path }: Slot): boolean {
    return this.#doubts(path).some((at) => Atomics.load(this.#memory.words, at) === Doubt.ASKED);
  }

  /**
   * A device drops what a worker gives it, or its driver says that it is down: whether it has lost its link, which its
   * message says later.
   */
  #lookAtLink(slot: Slot): void {
    const { words } = this.#memory;
    const reason = this.#whyDoubted(slot);
    if (reason === undefined) {
      for (const at of this.#doubts(slot.path)) Atomics.compareExchange(words, at, Doubt.ASKED, Doubt.LINKED);
      return;
    }
    this.#react(slot, reason, nowNanos());
    this.#events.guard('closing a path', () => this.#reconcile());
  }

  /** A driver that sends by itself says that it is down while somebody has RTNL, for which a look would wait. */
  #whyDoubted({ path, key, device }: Slot): Reason | undefined {
    const runs = device?.outlastsLink === true ? undefined : this.network.runs?.(path);
    if (runs !== undefined) return runs ? undefined : 'kick failed'; // tried again after a pause, as long as it is there
    const now = this.network.look(path);
    return now?.key === key ? unusable(path, now) : 'link gone';
  }

  /** Reads what the kernel counts into the shared memory. */
  count(): void {
    for (const { ready, drops, device } of this.#slots) if (ready) drops.read(device!);
    this.#lookForBypass();
    if (this.#tend(true)) this.#events.guard('closing a path', () => this.#reconcile());
  }

  #lookForBypass(): void {
    const vfOwns = this.#ownership.owner === Path.VF;
    const [vf, synthetic] = [this.#received(Path.VF), this.#received(Path.SYNTHETIC)];
    const around = this.#bypass.look({ vfOwns, vf, synthetic });
    if (around === 0) return;
    const detail = `it sends, and has received nothing while ${around} packets came by ${this.network.device}`;
    this.#news(this.#slots.find(({ path }) => path === Path.VF)!, 'bypassed', detail);
  }

  #received(path: PathId): number {
    const { doubles, layout } = this.#memory;
    let packets = 0;
    for (let queue = 0; queue < layout.geometry.queues; queue++) {
      packets += doubles[pathCounters(this.#memory, this.port, queue, path).rxPackets]!;
    }
    return packets;
  }

  /** Others may alter what the open paths have set up. Returns whether one of them is to be opened anew. */
  #tend(thorough: boolean): boolean {
    let any = false;
    for (const slot of this.#slots) {
      if (slot.device === undefined || slot.broken !== undefined || this.#closing) continue;
      const report = (error: TwinpathError): void => this.#events.error(error.toJSON());
      if (this.network.tend?.(slot.path, slot.device, thorough, report) !== false) continue;
      this.#react(slot, 'path failed', nowNanos());
      any = true;
    }
    return any;
  }

  /** While closing: this queue has no worker any more. */
  abandon(queue: number): void {
    this.#ownership.abandon(queue);
  }

  /** Lets go of both paths in good order; the kernel has its interfaces back afterwards. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const { retry } of this.#slots) clearTimeout(retry);
    await this.#reconcile();
  }

  #whatIsWrong(slot: Slot, gone: ReadonlySet<number>, downed: ReadonlySet<number>): Reason | undefined {
    if (gone.has(slot.key)) return 'link gone';
    if (downed.has(slot.key)) return 'link down';
    const endpoint = this.network.endpoint(slot.path);
    if (endpoint === undefined) return 'link gone';
    if (endpoint.key !== slot.key) return 'device replaced';
    return unusable(slot.path, endpoint);
  }

  /** Orders the workers off a path, now. What is slow follows in the serial loop. */
  #react(slot: Slot, reason: Reason, detected: number): void {
    slot.broken = reason;
    if (!this.#ownership.isAttached(slot.path)) return;
    // A device may be up again before its message is read.
    const stopped =
      reason === 'link gone' || (reason === 'link down' && this.network.runs?.(slot.path) === false);
    if (stopped) slot.device!.stopped?.();
    // A path that we leave by choice still delivers: first nothing more comes in, then it is drained. All
    // other reasons mean that it delivers nothing any more, and nothing may delay the order.
    if (reason === 'close' || reason === 'device replaced')
      this.#attempt('disarming', () => slot.device!.disarm());
    const other = this.#slots.find(
      ({ path, ready, broken }) => path !== slot.path && path !== Path.HOST && ready && broken === undefined,
    );
    const { owner } = this.#ownership;
    const next = owner === slot.path ? (other?.path ?? Path.NONE) : owner;
    void this.#ownership.detach(slot.path, next, reason, detected);
  }

  /** Runs a step that must not stop those after it; what it throws is reported. */
  #attempt(what: string, step: () => void): void {
    this.#events.guard(`${what}, ${this.network.device}`, step);
  }

  #reconcile(): Promise<void> {
    this.#dirty = true;
    this.#running ??= this.#loop();
    return this.#running;
  }

  async #loop(): Promise<void> {
    await undefined; // `#running` is set before the loop can end and clear it
    try {
      while (this.#dirty) {
        this.#dirty = false;
        for (const slot of this.#slots) if (slot.broken !== undefined) await this.#closePath(slot);
        if (this.#closing) {
          await this.#leave();
          continue;
        }
        for (const slot of this.#slots) this.#settle(slot);
        for (const slot of this.#slots) await this.#openPath(slot);
        await this.#selectOwner();
        this.#enableInline();
      }
    } finally {
      this.#running = undefined;
    }
  }

  /** Has the device's settings as the path needs them; a path that cannot go on without them is opened anew. */
  #settle(slot: Slot): void {
    if (!slot.unsettled) return;
    slot.unsettled = false;
    if (slot.device === undefined || slot.broken !== undefined) return;
    try {
      slot.device!.settle?.();
    } catch (error) {
      this.#react(slot, 'path failed', nowNanos());
      this.#dirty = true;
      this.#events.error(plain(error));
    }
  }

  async #leave(): Promise<void> {
    // The machine's own stack sends by the NetVSC again before there is nobody to send for it.
    for (const { device } of this.#slots)
      this.#attempt('leaving inline mode', () => device?.disableInline?.());
    for (const slot of this.#slots.toReversed()) {
      if (slot.device === undefined) continue;
      if (slot.broken === undefined) this.#react(slot, 'close', nowNanos());
      await this.#closePath(slot);
    }
  }

  /**
   * Closes a path that the workers have been ordered off, and has them take its frames back. One whose link alone is away
   * stays open, with new queues that have nothing in them.
   */
  async #closePath(slot: Slot): Promise<void> {
    await this.#ownership.settled();
    const device = slot.device!;
    const stays = this.#isOnlyLink(slot);
    this.#attempt('reading counters', () => slot.drops.settle(device));
    slot.ready = false;
    this.#attempt('closing a path', () => (stays ? device.closeQueues!() : device.close())); // disarms
    await this.#ownership.reclaim(slot.path);
    this.#news(slot, slot.broken === 'link gone' ? 'gone' : 'down', whatBroke(slot));
    slot.errno = 0;
    this.#dirty = true;
    if (stays) {
      slot.broken = undefined;
      await this.#renewQueues(slot);
      return;
    }
    // A path that only just came and broke again is not tried at once for ever.
    if (slot.broken === 'kick failed' || slot.broken === 'path failed') {
      if (nowNanos() - slot.openedAt >= STEADY_NANOS) slot.failures = 0;
      this.#later(slot);
    }
    slot.device = undefined;
    slot.broken = undefined;
    this.#events.changed();
  }

  /** Whether a path is only to wait for its link: the device is there, and what is open of it outlasts that. */
  #isOnlyLink({ path, broken, key, device }: Slot): boolean {
    if (this.#closing || path !== Path.VF || device?.outlastsLink !== true) return false;
    if (!isOfLink(broken) && broken !== 'kick failed') return false;
    try {
      const now = this.network.look(path);
      return now?.key === key && (isOfLink(broken) || unusable(path, now) !== undefined);
    } catch (error) {
      this.#events.error(plain(error));
      return false; // closed and opened again it is right as well
    }
  }

  async #renewQueues(slot: Slot): Promise<void> {
    try {
      await openedQueues(slot.device!);
    } catch (error) {
      await this.#failed(slot, error);
      return;
    }
    const gone = this.#whatIsWrong(slot, new Set(), new Set()); // whose message came meanwhile
    if (gone !== undefined && !isOfLink(gone)) this.#react(slot, gone, nowNanos());
  }

  /** Opens a path whose device is there; once that has a link, has the workers poll it, and lets packets in. */
  async #openPath(slot: Slot): Promise<void> {
    if (slot.ready || slot.broken !== undefined) return;
    const endpoint = this.network.endpoint(slot.path);
    if (slot.device === undefined && !this.#mayOpen(slot, endpoint)) return;
    try {
      if (slot.device === undefined) this.#open(slot, endpoint!);
      // Before there is a link: a zero-copy driver receives into our frames from its first packet on.
      if (!this.#ownership.isAttached(slot.path)) await this.#ownership.attach(slot.path);
      if (slot.broken === undefined) {
        if (!this.#hasLink(slot, this.network.endpoint(slot.path))) return;
        await this.#provideOwner(slot);
      }
      if (slot.broken === undefined) {
        slot.device!.settle?.(); // a driver may have made its own settings when it was set up
        slot.device!.arm();
      }
    } catch (error) {
      await this.#failed(slot, error);
      return;
    }
    if (slot.broken !== undefined) {
      this.#dirty = true;
      return;
    }
    slot.ready = true;
    slot.failingSince = 0;
    slot.openedAt = nowNanos();
    slot.told = '';
    this.#events.changed();
    this.#news(slot, 'up', slot.device!.description.generic);
    if (this.#tend(true)) this.#dirty = true;
    this.hearWorkers(); // a kick may have failed before the path counted as ready
  }

  /** What is received may be answered: something sends before the first path lets packets in. Opening the next may take long. */
  async #provideOwner({ path }: Slot): Promise<void> {
    if (path === Path.HOST || this.#ownership.owner !== Path.NONE) return;
    await this.#ownership.setOwner(path, 'start', nowNanos());
  }

  #mayOpen(slot: Slot, endpoint: Endpoint | undefined): boolean {
    const unlinked = endpoint !== undefined && unusable(slot.path, endpoint) !== undefined;
    if (endpoint === undefined || (unlinked && (slot.path !== Path.VF || slot.late === endpoint.key))) {
      slot.failures = slot.failingSince = 0;
      slot.told = '';
      return false;
    }
    if (endpoint.key !== slot.key) slot.failures = slot.failingSince = slot.retryAt = 0;
    return nowNanos() >= slot.retryAt;
  }

  #open(slot: Slot, endpoint: Endpoint): void {
    slot.device = this.network.make(slot.path, endpoint);
    slot.device.changed = this.#events.changed;
    slot.key = endpoint.key;
    slot.device.open();
  }

  /**
   * Whether the link is there. Of a VF the kernel is asked: its device may have reset itself when it was opened, and
   * messages about a carrier come late, or not at all if it was away for a moment (net/core/link_watch.c).
   */
  #hasLink(slot: Slot, known: Endpoint | undefined): boolean {
    const { path, key } = slot;
    if (path !== Path.VF) return true;
    if (known === undefined || unusable(path, known) !== undefined) return false; // a message will come
    const now = this.network.look(path);
    if (now?.key === key && unusable(path, now) === undefined) return true;
    clearTimeout(slot.retry);
    slot.retry = setTimeout(() => this.#events.guard('looking at a link', () => this.changed()), LOOK_MILLIS);
    return false;
  }

  async #failed(slot: Slot, error: unknown): Promise<void> {
    const known =
      error instanceof TwinpathError
        ? error
        : new TwinpathError('ERR_KERNEL', { device: this.network.device, detail: String(error) });
    const device = slot.device;
    if (this.#ownership.isAttached(slot.path)) {
      if (slot.broken === undefined) this.#react(slot, 'path failed', nowNanos());
      await this.#ownership.settled();
    }
    if (device !== undefined) this.#attempt('closing a path', () => device.close());
    await this.#ownership.reclaim(slot.path);
    slot.device = undefined;
    slot.broken = undefined;
    this.#events.changed();
    // What passes by itself is no news: a device that vanished while it was opened, whose DELLINK is; or a
    // queue that the kernel has not let go of since we did, which a work item does later (xp_put_pool).
    const still = this.network.endpoint(slot.path);
    if (slot.path === Path.VF && still?.key === slot.key && unusable(slot.path, still) !== undefined) {
      slot.late = slot.key; // a device may take all that only when its link is up
      return;
    }
    if (this.network.forsakes?.(slot.path, slot, known)) return;
    this.#startError ??= known;
    slot.failingSince ||= nowNanos();
    const lasts = nowNanos() - slot.failingSince >= PASSING_NANOS;
    if (lasts && still !== undefined && still.key === slot.key && slot.told !== known.message) {
      slot.told = known.message;
      this.#events.error(known.toJSON());
      this.#news(slot, 'failed', known.message, still.name);
    }
    this.#later(slot);
  }

  #later(slot: Slot): void {
    const pause = pauseBeforeRetry(slot.failures++);
    slot.retryAt = nowNanos() + pause * 1e6;
    clearTimeout(slot.retry);
    slot.retry = setTimeout(() => this.#events.guard('opening a path', () => this.changed()), pause + 1);
  }

  /** Lets what the machine's own stack sends come in, once there is a path to send it by. */
  #enableInline(): void {
    const host = this.#slots.find(({ path }) => path === Path.HOST)!;
    if (!host.ready || host.broken !== undefined) return;
    if (this.#ownership.owner === Path.NONE) {
      // The kernel may still reach somebody by itself.
      this.#attempt('leaving inline mode', () => host.device!.disableInline?.());
      return;
    }
    try {
      host.device!.enableInline?.();
    } catch (error) {
      this.#react(host, 'path failed', nowNanos());
      this.#dirty = true;
      this.#events.error(plain(error));
    }
  }

  /** The VF owns the queues when it is there, the synthetic path when it is not. */
  async #selectOwner(): Promise<void> {
    const usable = this.#slots.filter(
      ({ path, ready, broken }) => path !== Path.HOST && ready && broken === undefined,
    );
    const best = usable.find(({ path }) => path === Path.VF) ?? usable[0];
    const next = best?.path ?? Path.NONE;
    const { owner } = this.#ownership;
    if (next === owner) return;
    await this.#ownership.setOwner(next, owner === Path.NONE ? 'start' : 'path ready', nowNanos());
  }

  #news(
    slot: Slot,
    state: LinkNews['state'],
    detail?: string,
    device = slot.device?.description.device ?? this.network.device,
  ): void {
    this.#events.link({ port: this.port, path: PATH_NAMES[slot.path], device, state, detail });
  }
}

const isOfLink = (reason: Reason | undefined): boolean => reason === 'link down' || reason === 'carrier lost';

/** Whether a path is open, or being opened, that does not serve: what becomes of its link is no news then. */
const waits = ({ path, ready }: Slot): boolean => path === Path.VF && !ready;

const whatBroke = ({ broken, errno }: Slot): string =>
  errno === 0 ? broken! : `${broken} (${errnoName(errno)})`;

/** Opens the queues of a path that has just closed them: the kernel lets go of those in a work item (xp_put_pool). */
async function openedQueues(device: PathDevice): Promise<void> {
  for (let pause = 2; ; pause *= 2) {
    try {
      return device.openQueues!();
    } catch (error) {
      if (!(error instanceof TwinpathError) || error.code !== 'ERR_DEVICE_BUSY' || pause > MAX_PAUSE)
        throw error;
      device.closeQueues!();
      await sleep(pause);
    }
  }
}
