/**
 * One queue of one port, on its worker: polls the attached paths and carries out ownership orders.
 *
 * **Receiving** is from every attached path, always. The path that carries the traffic comes first, see path-order.ts;
 * what other workers have handed over, and what the machine's own stack sends, comes after both.
 *
 * **Ownership** (who transmits) is one word, loaded once a round. When it differs from what was last put
 * into effect, the round is the switch: read-copy-update with the burst as the quiescent state. The
 * coordinator frees nothing before the acknowledgement.
 */

import type { Burst } from '../handler/burst.ts';
import type { Shim } from '../kernel/shim.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import { pathCounters, queueCounters } from '../memory/counters.ts';
import type { FramePool } from '../memory/frames.ts';
import { HOST_BUFFERS } from '../memory/geometry.ts';
import { holderTag } from '../memory/holder.ts';
import type { LaneReceiver } from '../memory/lane.ts';
import { BURST, Driver, Path, type PathId, Reader, SLOT_PATHS } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import {
  LaneKind,
  laneKind,
  lanePath,
  laneSource,
  ownerAttached,
  ownerPath,
  ownerReclaim,
  pathBit,
} from '../memory/words.ts';
import { attach } from '../paths/attach.ts';
import type { PathQueue } from '../paths/path.ts';
import { ProxyQueue } from '../paths/proxy-queue.ts';
import type { RssHash } from '../rss/toeplitz.ts';
import { Dispatch, type DispatchContext } from './dispatch.ts';
import { PathOrder } from './path-order.ts';
import type { Replay } from './replay.ts';
import { Split } from './split.ts';

/**
 * How long a switch waits for what was given to a path that stays: other ports of this worker may forward to it
 * all the while, and a path that sends nothing must not keep the queue. Nanoseconds.
 */
const LONGEST_WAIT = 1e9;

/**
 * A driver that has sent nothing for so long has stopped: it reads its ring in bursts of some microseconds, when it is
 * kicked or has sent something. Nanoseconds.
 */
const STILL = 5e6;

/** Pieces that one packet of the host may be cut into, roughly: 64 KiB by 1448 bytes. */
const PIECES = 48;

export interface PortQueueContext extends DispatchContext {
  readonly shim: Shim;
  /** Undefined: flows stay where the devices put them. */
  readonly rss: RssHash | undefined;
  /** Of a worker without the port's handler: what other workers have handed over is divided anew. */
  readonly fallback?: boolean;
  /** Tells the coordinator to look: an order was carried out, or a kick failed. */
  readonly attention: () => void;
}

export class PortQueue {
  /** Index of the counter of sleeps. */
  readonly sleeps: number;
  readonly #context: PortQueueContext;
  readonly #memory: Memory;
  readonly #words: Int32Array;
  readonly #pool: FramePool;
  readonly #burst: Burst;
  readonly #dispatch: Dispatch;
  readonly #takenOver: number;
  readonly #block: QueueBlock;
  readonly #ownerAt: number;
  readonly #queues: (PathQueue | undefined)[] = [undefined, undefined, undefined, undefined];
  #attached: PathQueue[] = [];
  #seen: number;
  #began = 0;
  /** Of a driver that is being left: how far it had got, and since when. */
  #sending: number | undefined;
  #movedAt = 0;
  readonly #order = new PathOrder((path, most) => this.#pump(path, most));
  #host: PathQueue | undefined;
  /** What a dead worker had in hand, until all of it is handled. */
  #replay: Replay | undefined;
  /** Undefined with one queue: there is nobody to hand anything to. */
  readonly #split: Split | undefined;
  /** Whether the handler has a loop of its own, and nothing is to be done with packets before it sees them. */
  readonly #turns: boolean;

  constructor(context: PortQueueContext) {
    const { memory, port, queue } = context;
    this.sleeps = queueCounters(memory, port, queue).sleeps;
    this.#context = context;
    this.#memory = memory;
    this.#words = memory.words;
    this.#pool = context.pool;
    this.#burst = context.burst;
    this.#dispatch = new Dispatch(context);
    this.#split = memory.layout.geometry.queues > 1 ? new Split(context) : undefined;
    this.#turns = context.turn !== undefined && !this.#split?.divides;
    this.#takenOver = queueCounters(memory, port, queue).takenOver;
    this.#block = memory.queue(port, queue);
    this.#ownerAt = this.#block.at('owner');
    this.#seen = Atomics.load(this.#words, this.#block.at('ack'));
  }

  /** The attached paths. */
  get paths(): readonly PathQueue[] {
    return this.#attached;
  }

  get dispatch(): Dispatch {
    return this.#dispatch;
  }

  get split(): Split | undefined {
    return this.#split;
  }

  /** Whether something waits that no descriptor will tell of: do not sleep long. */
  get restless(): boolean {
    for (const { backlog } of this.#attached) if (backlog) return true;
    return this.#began !== 0 || this.#replay !== undefined;
  }

  /** Paths that the last worker had attached, by what it acknowledged. */
  get acknowledged(): PathId[] {
    return SLOT_PATHS.filter((path) => ownerAttached(this.#seen) & pathBit(path));
  }

  /** Puts a path queue in its place. For starting; orders do the rest. */
  adopt(path: PathQueue): void {
    this.#queues[path.path] = path;
    this.#arrange();
  }

  /**
   * After the paths of a dead worker are adopted: transmits by the path it had acknowledged.
   *
   * @param replay what that worker had in hand: it is handled before anything else
   */
  resume(replay?: Replay): void {
    if (replay !== undefined && replay.pending > 0) this.#replay = replay;
    for (const path of SLOT_PATHS) {
      if (ownerAttached(this.#seen) & pathBit(path)) this.#queues[path] ??= this.#proxy(path);
    }
    this.#arrange();
    this.#dispatch.out = this.#queues[ownerPath(this.#seen)];
  }

  /** One round. Returns the packets handled. */
  poll(): number {
    const word = Atomics.load(this.#words, this.#ownerAt);
    if (word !== this.#seen && !this.#change(word)) return 0;
    this.#dispatch.lookUp();
    if (this.#replay !== undefined) return this.#goOn(this.#replay);
    let handled = this.#order.poll();
    if (this.#split !== undefined) for (const lane of this.#split.receivers) handled += this.#take(lane);
    if (this.#host !== undefined) handled += this.#hear(this.#host);
    this.#serve();
    return handled;
  }

  /** Sends what is staged, and takes and gives frames. */
  #serve(): void {
    for (const path of this.#attached) {
      path.complete();
      path.refill();
      const result = path.flush();
      if (result < 0) this.#kickFailed(path.path, -result);
      if (path.backlog && path.takeDoubt?.()) this.#context.attention();
    }
  }

  /** A round after another worker's death: what that one had in hand, and nothing else until it is through. */
  #goOn(replay: Replay): number {
    const handled = this.#room(BURST) ? replay.next(this.#dispatch, this.#split) : 0;
    if (replay.pending === 0) {
      replay.suspects = 0;
      this.#replay = undefined;
    }
    this.#serve();
    return handled;
  }

  /** Handles up to a burst of what another worker has handed over, or sends what it was asked to. */
  #take(lane: LaneReceiver): number {
    if (lane.ready(BURST) === 0) return 0;
    const { meta } = lane;
    const early = laneKind(meta) === LaneKind.PACKET && this.#order.holds(lanePath(meta));
    if (early || !this.#room(BURST)) return 0;
    const { offset, bytes, hash } = this.#burst;
    const count = lane.receive(offset, bytes, hash, BURST);
    this.#memory.doubles[this.#takenOver]! += count;
    if (laneKind(meta) === LaneKind.SEND) {
      for (let i = 0; i < count; i++) this.#dispatch.transmit(offset[i]!, bytes[i]!);
    } else {
      const own = this.#context.fallback ? this.#split!.divide(count, lanePath(meta)) : count;
      if (own > 0) this.#dispatch.run(own, lanePath(meta), laneSource(lane.from));
    }
    lane.release(count);
    return count;
  }

  /** Handles what the machine's own stack sends: few at a time, as each may become many. */
  #hear(host: PathQueue): number {
    const { out } = this.#dispatch;
    const room = out === undefined ? PIECES : out.room(PIECES * HOST_BUFFERS);
    const most = Math.floor(room / PIECES);
    if (most === 0 || host.ready(most) === 0) return 0;
    const count = host.receive(this.#burst.offset, this.#burst.bytes, most);
    if (count > 0) {
      this.#split?.hash(count);
      this.#dispatch.run(count, host.path, host.path, host.borrowed);
    }
    host.release();
    return count;
  }

  /** Whether the way out has room; if not, what it can do about that is done first. */
  #room(wanted: number): boolean {
    const { out } = this.#dispatch;
    if (out === undefined || out.room(wanted) >= wanted) return true;
    const result = out.flush();
    if (result < 0) this.#kickFailed(out.path, -result);
    out.complete();
    return out.room(wanted) >= wanted;
  }

  /**
   * Handles up to `most` packets of a path, a burst or a turn of them, and returns how many; -1 if there is no room to
   * send them on, unless they are to be handled `anyway`.
   */
  #pump(path: PathQueue, most: number, anyway = false): number {
    const dispatch = this.#dispatch;
    // Back pressure: what is not received waits in the path's ring, where the kernel counts overflow.
    if (!this.#room(BURST) && !anyway) return -1;
    // NB: only by the path that it came by. Its queue is whole again before it receives, when a worker has died.
    if (this.#turns && path === dispatch.out && path.turn !== undefined) {
      return dispatch.turn(path, path.turn, most);
    }
    const max = Math.min(most, BURST);
    if (path.ready(max) === 0) return 0;
    const burst = this.#burst;
    const count =
      path.receiveBurst === undefined
        ? path.receive(burst.offset, burst.bytes, max)
        : path.receiveBurst(burst.at, max);
    const own = this.#split === undefined ? count : this.#split.divide(count, path.path);
    if (own > 0) dispatch.run(own, path.path);
    path.release();
    return count;
  }

  /** Carries an order out. False while it has to wait for transmissions on the old path. */
  #change(word: number): boolean {
    const before = this.#dispatch.out;
    if (this.#began === 0) {
      this.#began = nowNanos();
      this.#sending = undefined;
      if (before instanceof ProxyQueue) before.mark();
    }
    const began = this.#began;
    const staying = ownerAttached(word);
    this.#reclaim(ownerReclaim(word));
    this.#attachNew(staying);

    for (const path of this.#attached) {
      if (!(staying & pathBit(path.path)) && this.#stillSends(path)) return false;
    }
    const after = this.#queues[ownerPath(word)];
    // The old path stays and works: what was given to it must be out before the new one may send.
    if (before !== undefined && before !== after && staying & pathBit(before.path)) {
      before.flush();
      before.complete();
      if (before.ledger().tx > 0 && nowNanos() - began < LONGEST_WAIT) return false;
    }
    if (before instanceof ProxyQueue && before !== after && !this.#handedOn(before, word)) return false;
    this.#dispatch.out = after;
    let rescued = 0;
    let drained = 0;
    for (const path of this.#attached) {
      if (staying & pathBit(path.path) || path.path === Path.HOST) continue;
      rescued += this.#rescue(path);
      drained += this.#drain(path);
      path.complete();
      path.detach();
      this.#queues[path.path] = undefined;
    }
    this.#leaveHost(staying);
    this.#arrange();
    this.#acknowledge(word, began, drained, rescued);
    return true;
  }

  /** The host path is left last: what the others drained may still pass by it. */
  #leaveHost(staying: number): void {
    const host = this.#queues[Path.HOST];
    if (host === undefined || staying & pathBit(Path.HOST)) return;
    host.flush();
    host.complete();
    host.detach();
    this.#queues[Path.HOST] = undefined;
  }

  /**
   * Whether what was given to another worker to send is on its way: it has left the path too, and so has
   * put what waited there on the one that follows.
   */
  #handedOn(proxy: ProxyQueue, word: number): boolean {
    proxy.flush();
    if (proxy.waiting) return false;
    const { memory, port } = this.#context;
    const other = memory.queue(port, proxy.server);
    return Atomics.load(this.#words, other.at('ack')) === word;
  }

  /**
   * Whether a driver that sends by itself still does: what it has begun to read cannot be taken back, so that is first
   * waited for, as long as it gets on.
   */
  #stillSends(path: PathQueue): boolean {
    if (this.#readerOf(path) !== Reader.DRIVER) return false;
    // What is given to the path from now on, by other ports of this worker, waits to be taken back.
    if (this.#sending === undefined) path.flush();
    path.complete();
    const sending = path.sending?.();
    if (sending === undefined) return false;
    const now = nowNanos();
    if (sending !== this.#sending) {
      this.#sending = sending;
      this.#movedAt = now;
    }
    return now - this.#movedAt < STILL && now - this.#began < LONGEST_WAIT;
  }

  #readerOf({ path }: PathQueue): number {
    const { memory, port, queue } = this.#context;
    return memory.slot({ port, queue, path }).reader;
  }

  /** Takes back what the kernel has not taken of a path's transmit ring, in order. */
  #rescue(path: PathQueue): number {
    if (this.#readerOf(path) === Reader.NONE) {
      path.flush(); // what was forwarded or made since the last round
      return 0;
    }
    const count = path.takeBack((offset, bytes) => this.#dispatch.resend(offset, bytes));
    this.#dispatch.out?.flush();
    return count;
  }

  /** Handles what has already arrived by a path that goes. Its mapped ring outlives its socket. */
  #drain(path: PathQueue): number {
    let drained = 0;
    // Bounded: a broken ring must not hold the queue. Twice what any ring holds while the way out has no room,
    // then as much again whether it has or not: what finds none is dropped, and counted.
    const patient = 2 * (this.#memory.layout.geometry.ringEntries / BURST);
    for (let round = 0; round < 2 * patient; round++) {
      if (path.ready(BURST) === 0) break;
      drained += Math.max(this.#pump(path, BURST, round >= patient), 0);
      this.#dispatch.out?.flush();
      this.#dispatch.out?.complete();
    }
    return drained;
  }

  #reclaim(paths: number): void {
    for (const path of SLOT_PATHS) {
      if ((paths & pathBit(path)) === 0) continue;
      const { memory, port, queue } = this.#context;
      const found = this.#pool.reclaim(holderTag(queue, port, path));
      memory.doubles[pathCounters(memory, port, queue, path).txUnknown]! += found.tx;
    }
  }

  #attachNew(staying: number): void {
    const { shim, port, queue } = this.#context;
    for (const path of SLOT_PATHS) {
      if ((staying & pathBit(path)) === 0 || this.#queues[path] !== undefined) continue;
      this.#words[this.#block.kickErrnoAt(path)] = 0;
      const attached = attach(shim, this.#memory, this.#pool, { port, queue, path }) ?? this.#proxy(path);
      if (attached === undefined) continue;
      attached.refill();
      attached.flush();
      this.#queues[path] = attached;
    }
    this.#arrange();
  }

  /** For a path that has fewer queues than the port: sends by the worker of one it has. */
  #proxy(path: PathId): ProxyQueue | undefined {
    const { memory, port, queue } = this.#context;
    const slot = memory.slot({ port, queue, path });
    if (slot.driver !== Driver.PROXY) return undefined;
    const split = this.#split!;
    const lane = split.lanes[slot.fd]!;
    return new ProxyQueue(memory, { port, queue, path }, lane, () => split.commit());
  }

  #arrange(): void {
    const synthetic = this.#queues[Path.SYNTHETIC];
    const vf = this.#queues[Path.VF];
    const host = this.#queues[Path.HOST];
    this.#order.arrange(synthetic, vf);
    this.#host = this.#dispatch.host = host;
    this.#attached = [synthetic, vf, host].filter((path) => path !== undefined);
  }

  #acknowledge(word: number, began: number, drained: number, rescued: number): void {
    const block = this.#block;
    block.drained = drained;
    block.rescued = rescued;
    block.switchBegan = began;
    block.switchEnded = nowNanos();
    this.#seen = word;
    this.#began = 0;
    Atomics.store(this.#words, block.at('ack'), word);
    this.#context.attention();
  }

  /** ENETDOWN or ENXIO say that the device is gone before rtnetlink does: told once per attachment. */
  #kickFailed(path: PathId, errno: number): void {
    const at = this.#block.kickErrnoAt(path);
    if (this.#words[at] !== 0) return;
    Atomics.store(this.#words, at, errno);
    this.#context.attention();
  }
}
