/**
 * One queue of one port, on its worker: polls the attached paths.
 *
 * **Receiving** is from every attached path, always: path-order.ts says which is polled first. Packets that other workers
 * have handed over, and packets of the machine's own stack, come last.
 *
 * **Ownership** (which path transmits) is one word, loaded once a round. When it differs from the last acknowledged order,
 * the round is the switch: see owner-switch.ts.
 */
import { HandoffKind, handoffKind, handoffPath } from '../memory/bit-fields.ts';
import { queueCounters } from '../memory/counters.ts';
import { HOST_BUFFERS } from '../memory/geometry.ts';
import type { HandoffReceiver } from '../memory/handoff.ts';
import { BURST, Path } from '../memory/layout.ts';
import type { AttachedPath } from '../paths/attached-path.ts';
import type { HashTables } from '../rss/toeplitz.ts';
import { Dispatch, type DispatchContext } from './dispatch.ts';
import { handoffSource } from './handler-call.ts';
import { OwnerSwitch } from './owner-switch.ts';
import { PathOrder } from './path-order.ts';
import type { Replay } from './replay.ts';
import { SoftwareRss } from './software-rss.ts';

/** Segments of one packet of the host, roughly: 64 KiB by 1448 bytes. */
const MAX_SEGMENTS = 48;

export interface PortQueueContext extends DispatchContext {
  /** Undefined: flows stay where the devices put them. */
  readonly hashTables: HashTables | undefined;
  /** Of a worker without the port's handler: packets that other workers hand over are distributed again. */
  readonly fallback?: boolean;
  /** See owner-switch.ts. */
  readonly notifySupervisor: () => void;
}

export class PortQueue {
  /** Index of the counter of sleeps. */
  readonly sleeps: number;
  readonly dispatch: Dispatch;
  /** Undefined with one queue. */
  readonly softwareRss: SoftwareRss | undefined;
  /** The switch from path to path; takeover.ts and the switch itself also attach paths by it. */
  readonly ownerSwitch: OwnerSwitch;
  readonly #context: PortQueueContext;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #ownerAt: number;
  readonly #takenOver: number;
  readonly #order = new PathOrder<AttachedPath>((path, most) => this.pollPath(path, most));
  #attached: readonly AttachedPath[] = [];
  /** The packets that a dead worker had in hand, until all are handled. */
  #replay: Replay | undefined;
  /** Whether the handler has a loop of its own, and packets need neither a hash nor metadata before it. */
  readonly #inPlace: boolean;

  constructor(context: PortQueueContext) {
    const { memory, port, queue } = context;
    const counters = queueCounters(memory, port, queue);
    this.sleeps = counters.sleeps;
    this.softwareRss = memory.layout.geometry.queues > 1 ? new SoftwareRss(context) : undefined;
    this.dispatch = new Dispatch({ ...context, hashes: this.softwareRss?.hashes ?? false });
    this.#context = context;
    this.#words = memory.words;
    this.#doubles = memory.doubles;
    this.#ownerAt = memory.queue(port, queue).at('owner');
    this.#takenOver = counters.takenOver;
    this.#inPlace = context.inPlace !== undefined && !this.softwareRss?.hashes && !context.metadata;
    this.ownerSwitch = new OwnerSwitch(context, this);
  }

  get paths(): readonly AttachedPath[] {
    return this.#attached;
  }

  /** Whether packets wait that no descriptor will report: do not sleep long. */
  get hasUnpolledWork(): boolean {
    for (const { tx } of this.#attached) if (tx.backlog) return true;
    return this.ownerSwitch.waits || this.#replay !== undefined || this.softwareRss?.holds === true;
  }

  /** The attached paths have changed: `paths` has them by number. */
  arrange(paths: readonly (AttachedPath | undefined)[]): void {
    this.#order.arrange(paths[Path.SYNTHETIC], paths[Path.VF]);
    this.dispatch.host = paths[Path.HOST];
    this.#attached = paths.filter((path) => path !== undefined);
  }

  /** Handles these packets of a dead worker before any others. */
  replay(replay: Replay): void {
    if (replay.pending > 0) this.#replay = replay;
  }

  /** One round. Returns the packets handled. */
  poll(): number {
    const order = Atomics.load(this.#words, this.#ownerAt);
    if (order !== this.ownerSwitch.acknowledged && !this.ownerSwitch.carryOut(order)) return 0;
    this.dispatch.readLimit();
    if (this.#replay !== undefined) return this.#pollReplay(this.#replay);
    const { softwareRss } = this;
    if (softwareRss === undefined) {
      const handled = this.#order.poll() + this.#pollHost();
      this.#flush();
      return handled;
    }
    let handled = softwareRss.update() ? this.#order.poll() : 0;
    for (const handoff of softwareRss.receivers) handled += this.#pollHandoffs(handoff);
    handled += this.#pollHost();
    this.#flush();
    // NB: once they are sent. A sender that moves a flow to another worker takes that for granted.
    for (const handoff of softwareRss.receivers) handoff.releaseRead();
    return handled;
  }

  /**
   * Handles up to `most` packets of a path, at most a burst or an in-place call of them. Returns how many; -1 if the path
   * that owns the queue has no room for them, unless they are to be handled `anyway`.
   */
  pollPath(path: AttachedPath, most: number, anyway = false): number {
    const { dispatch } = this;
    // Back pressure: unreceived packets wait in the path's ring, where the kernel counts overflow.
    if (!this.#hasRoom(BURST) && !anyway) return -1;
    // NB: only out of the path that they came by. After a worker's death its queue is whole before it receives.
    const mayRunInPlace = this.#inPlace && !dispatch.sendsTeed && dispatch.capture === undefined;
    if (mayRunInPlace && path === dispatch.out && path.inPlace !== undefined) {
      return dispatch.inPlace.run(path, path.inPlace, most);
    }
    const { rx } = path;
    const max = Math.min(most, BURST);
    if (rx.ready(max) === 0) return 0;
    const count = rx.receive(this.#context.burst, max);
    const own = this.softwareRss === undefined ? count : this.softwareRss.distribute(count, path.path);
    if (own > 0) dispatch.run(own, path.path);
    rx.release();
    return count;
  }

  /** Sends the staged packets; takes sent frames back, and offers free ones. */
  #flush(): void {
    this.dispatch.capture?.commit();
    for (const path of this.#attached) {
      path.tx.complete();
      path.refill();
      const result = path.tx.flush();
      if (result < 0) this.ownerSwitch.kickFailed(path.path, -result);
    }
  }

  /** Whether so many packets can be transmitted; if not, first sends the staged ones. */
  #hasRoom(wanted: number): boolean {
    const { out } = this.dispatch;
    if (out === undefined || out.tx.room(wanted) >= wanted) return true;
    const result = out.tx.flush();
    if (result < 0) this.ownerSwitch.kickFailed(out.path, -result);
    out.tx.complete();
    return out.tx.room(wanted) >= wanted;
  }

  /** Handles up to a burst of packets that another worker has handed over, or transmits them for it. Releases none. */
  #pollHandoffs(handoff: HandoffReceiver): number {
    if (handoff.ready(BURST) === 0) return 0;
    const { meta } = handoff;
    // NB: a worker that holds does not empty its active path, and two that hold may wait for each other's packets.
    const early =
      handoffKind(meta) === HandoffKind.PACKET &&
      !this.softwareRss!.holds &&
      this.#order.holds(handoffPath(meta));
    if (early || !this.#hasRoom(BURST)) return 0;
    const { offset, bytes, hash } = this.#context.burst;
    const count = handoff.receive(offset, bytes, hash, BURST);
    this.#doubles[this.#takenOver]! += count;
    if (handoffKind(meta) === HandoffKind.SEND) {
      for (let i = 0; i < count; i++) this.dispatch.transmitFor(offset[i]!, bytes[i]!);
    } else {
      const own = this.#context.fallback ? this.softwareRss!.distribute(count, handoffPath(meta)) : count;
      if (own > 0) this.dispatch.run(own, handoffPath(meta), handoffSource(handoff.from));
    }
    return count;
  }

  /** Handles packets of the machine's own stack: few at a time, because each may become many. */
  #pollHost(): number {
    const { host, out } = this.dispatch;
    if (host === undefined) return 0;
    const { rx } = host;
    const room = out === undefined ? MAX_SEGMENTS : out.tx.room(MAX_SEGMENTS * HOST_BUFFERS);
    const most = Math.floor(room / MAX_SEGMENTS);
    if (most === 0 || rx.ready(most) === 0) return 0;
    const count = rx.receive(this.#context.burst, most);
    if (count > 0) {
      this.softwareRss?.hash(count);
      this.dispatch.run(count, Path.HOST);
    }
    rx.release();
    return count;
  }

  /** A round after another worker's death: handles the packets that it had in hand, and no others until these are done. */
  #pollReplay(replay: Replay): number {
    const handled = this.#hasRoom(BURST) ? replay.next(this.dispatch, this.softwareRss) : 0;
    if (replay.pending === 0) {
      replay.suspects = 0;
      this.#replay = undefined;
    }
    this.#flush();
    return handled;
  }
}
