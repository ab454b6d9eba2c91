/**
 * One queue of one port, on its worker: polls the attached paths. owner-switch.ts has how it changes from path to path.
 *
 * **Receiving** is from every attached path, always. The path that carries the traffic comes first, see path-order.ts;
 * what other workers have handed over, and what the machine's own stack sends, comes after both.
 *
 * **Ownership** (who transmits) is one word, loaded once a round. When it differs from what was last put into effect, the
 * round is the switch.
 */

import { HandoffKind, handoffKind, handoffPath, handoffSource } from '../memory/bit-fields.ts';
import { queueCounters } from '../memory/counters.ts';
import { HOST_BUFFERS } from '../memory/geometry.ts';
import type { HandoffReceiver } from '../memory/handoff.ts';
import { BURST, Path, type PathId } from '../memory/layout.ts';
import type { PathQueue } from '../paths/path.ts';
import type { RssHash } from '../rss/toeplitz.ts';
import { Dispatch, type DispatchContext } from './dispatch.ts';
import { OwnerSwitch } from './owner-switch.ts';
import { PathOrder } from './path-order.ts';
import type { Replay } from './replay.ts';
import { SoftwareRss } from './software-rss.ts';

/** Pieces that one packet of the host may be cut into, roughly: 64 KiB by 1448 bytes. */
const MAX_SEGMENTS = 48;

export interface PortQueueContext extends DispatchContext {
  /** Undefined: flows stay where the devices put them. */
  readonly rss: RssHash | undefined;
  /** Of a worker without the port's handler: what other workers have handed over is divided anew. */
  readonly fallback?: boolean;
  /** See owner-switch.ts. */
  readonly notifyCoordinator: () => void;
}

export class PortQueue {
  /** Index of the counter of sleeps. */
  readonly sleeps: number;
  readonly dispatch: Dispatch;
  /** Undefined with one queue: there is nobody to hand anything to. */
  readonly softwareRss: SoftwareRss | undefined;
  readonly #context: PortQueueContext;
  readonly #doubles: Float64Array;
  readonly #takenOver: number;
  readonly #switch: OwnerSwitch;
  readonly #order = new PathOrder<PathQueue>((path, most) => this.pollPath(path, most));
  #attached: readonly PathQueue[] = [];
  #host: PathQueue | undefined;
  /** What a dead worker had in hand, until all of it is handled. */
  #replay: Replay | undefined;
  /** Whether the handler has a loop of its own, and nothing is to be done with packets before it sees them. */
  readonly #inPlace: boolean;

  constructor(context: PortQueueContext) {
    const { memory, port, queue } = context;
    const counters = queueCounters(memory, port, queue);
    this.sleeps = counters.sleeps;
    this.dispatch = new Dispatch(context);
    this.softwareRss = memory.layout.geometry.queues > 1 ? new SoftwareRss(context) : undefined;
    this.#context = context;
    this.#doubles = memory.doubles;
    this.#takenOver = counters.takenOver;
    this.#inPlace = context.inPlace !== undefined && !this.softwareRss?.hashes;
    this.#switch = new OwnerSwitch(context, this);
  }

  /** The attached paths. */
  get paths(): readonly PathQueue[] {
    return this.#attached;
  }

  /** Whether something waits that no descriptor will tell of: do not sleep long. */
  get hasUnpolledWork(): boolean {
    for (const { tx } of this.#attached) if (tx.backlog) return true;
    return this.#switch.waits || this.#replay !== undefined;
  }

  /** Paths that the last worker had attached, by what it acknowledged. */
  get acknowledged(): PathId[] {
    return this.#switch.acknowledged;
  }

  /** Puts a path queue in its place. For starting; orders do the rest. */
  adopt(path: PathQueue): void {
    this.#switch.adopt(path);
  }

  /**
   * After the paths of a dead worker are adopted: transmits by the path it had acknowledged.
   *
   * @param replay what that worker had in hand: it is handled before anything else
   */
  resume(replay?: Replay): void {
    if (replay !== undefined && replay.pending > 0) this.#replay = replay;
    this.#switch.resume();
  }

  /** The attached paths have changed. */
  arrange(synthetic: PathQueue | undefined, vf: PathQueue | undefined, host: PathQueue | undefined): void {
    this.#order.arrange(synthetic, vf);
    this.#host = this.dispatch.host = host;
    this.#attached = [synthetic, vf, host].filter((path) => path !== undefined);
  }

  /** One round. Returns the packets handled. */
  poll(): number {
    if (!this.#switch.obey()) return 0;
    this.dispatch.lookUp();
    if (this.#replay !== undefined) return this.#goOn(this.#replay);
    let handled = this.#order.poll();
    if (this.softwareRss !== undefined)
      for (const handoff of this.softwareRss.receivers) handled += this.#pollHandoffs(handoff);
    if (this.#host !== undefined) handled += this.#pollHost(this.#host);
    this.#serve();
    return handled;
  }

  /**
   * Handles up to `most` packets of a path, a burst or an in-place call of them, and returns how many; -1 if there is no room to
   * send them on, unless they are to be handled `anyway`.
   */
  pollPath(path: PathQueue, most: number, anyway = false): number {
    const { dispatch } = this;
    // Back pressure: what is not received waits in the path's ring, where the kernel counts overflow.
    if (!this.#room(BURST) && !anyway) return -1;
    // NB: only by the path that it came by. Its queue is whole again before it receives, when a worker has died.
    if (this.#inPlace && path === dispatch.out && path.inPlace !== undefined) {
      return dispatch.inPlace.run(path, path.inPlace, most);
    }
    const { rx } = path;
    const max = Math.min(most, BURST);
    if (rx.ready(max) === 0) return 0;
    const { burst } = this.#context;
    const count =
      rx.receiveBurst === undefined
        ? rx.receive(burst.offset, burst.bytes, max)
        : rx.receiveBurst(burst.at, max);
    const own = this.softwareRss === undefined ? count : this.softwareRss.distribute(count, path.path);
    if (own > 0) dispatch.run(own, path.path);
    rx.release();
    return count;
  }

  /** Sends what is staged, and takes and gives frames. */
  #serve(): void {
    for (const path of this.#attached) {
      path.tx.complete();
      path.refill();
      const result = path.tx.flush();
      if (result < 0) this.#switch.kickFailed(path.path, -result);
    }
  }

  /** Whether the way out has room; if not, what it can do about that is done first. */
  #room(wanted: number): boolean {
    const { out } = this.dispatch;
    if (out === undefined || out.tx.room(wanted) >= wanted) return true;
    const result = out.tx.flush();
    if (result < 0) this.#switch.kickFailed(out.path, -result);
    out.tx.complete();
    return out.tx.room(wanted) >= wanted;
  }

  /** Handles up to a burst of what another worker has handed over, or sends what it was asked to. */
  #pollHandoffs(handoff: HandoffReceiver): number {
    if (handoff.ready(BURST) === 0) return 0;
    const { meta } = handoff;
    const early = handoffKind(meta) === HandoffKind.PACKET && this.#order.holds(handoffPath(meta));
    if (early || !this.#room(BURST)) return 0;
    const { offset, bytes, hash } = this.#context.burst;
    const count = handoff.receive(offset, bytes, hash, BURST);
    this.#doubles[this.#takenOver]! += count;
    if (handoffKind(meta) === HandoffKind.SEND) {
      for (let i = 0; i < count; i++) this.dispatch.transmit(offset[i]!, bytes[i]!);
    } else {
      const own = this.#context.fallback ? this.softwareRss!.distribute(count, handoffPath(meta)) : count;
      if (own > 0) this.dispatch.run(own, handoffPath(meta), handoffSource(handoff.from));
    }
    handoff.release(count);
    return count;
  }

  /** Handles what the machine's own stack sends: few at a time, as each may become many. */
  #pollHost({ rx }: PathQueue): number {
    const { out } = this.dispatch;
    const room = out === undefined ? MAX_SEGMENTS : out.tx.room(MAX_SEGMENTS * HOST_BUFFERS);
    const most = Math.floor(room / MAX_SEGMENTS);
    if (most === 0 || rx.ready(most) === 0) return 0;
    const { offset, bytes } = this.#context.burst;
    const count = rx.receive(offset, bytes, most);
    if (count > 0) {
      this.softwareRss?.hash(count);
      this.dispatch.run(count, Path.HOST, Path.HOST, rx.borrowed);
    }
    rx.release();
    return count;
  }

  /** A round after another worker's death: what that one had in hand, and nothing else until it is through. */
  #goOn(replay: Replay): number {
    const handled = this.#room(BURST) ? replay.next(this.dispatch, this.softwareRss) : 0;
    if (replay.pending === 0) {
      replay.suspects = 0;
      this.#replay = undefined;
    }
    this.#serve();
    return handled;
  }
}
