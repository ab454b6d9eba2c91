/**
 * React: orders the workers of one port off a path as soon as it is lost, in the same turn of the event loop in which the
 * supervisor learns of it. Nothing here waits, and no system call here takes RTNL. Supervisor's thread only.
 *
 * All orders to the workers are given here. Those that need no haste come from the coordinator (path-orders.ts): it opens
 * paths, and closes those that were left. A path that was left can be attached again only after its frames were reclaimed,
 * whatever the coordinator has ordered meanwhile, and also if another coordinator takes over in between.
 */
import type { LinkState, Reading } from '../kernel/link-watch.ts';
import type { Reason } from '../memory/journal.ts';
import { Path, type PathId, Reader } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';
import { answerLinked, isDoubted } from './doubts.ts';
import type { Ownership } from './ownership.ts';
import type { LeftPath, PathNotice, PathOrder } from './path-orders.ts';
import { isLinkLoss, unusable, waitsForLink } from './slot.ts';

/** A path that the workers poll. */
interface PolledPath {
  /** ifindex of its device. */
  readonly key: number;
  /** Armed and in use. A VF that is not waits for its link. */
  ready: boolean;
  /** Why it could not serve, by the last message about its link. */
  loss: Reason | undefined;
}

/** Paths that are lost together are left in this order. */
const ORDER = [Path.HOST, Path.SYNTHETIC, Path.VF] as const;

export interface FailoverContext {
  readonly memory: Memory;
  readonly port: number;
  readonly ownership: Ownership;
  /** Whether the kernel has a device running; undefined if it does not say. @throws ERR_KERNEL */
  readonly isRunning: (ifindex: number) => boolean | undefined;
  /** Tells the coordinator, if there is one. */
  readonly tell: (notice: PathNotice) => void;
  /** Runs a step that must not stop the steps after it; its exception is reported. */
  readonly attempt: (step: string, work: () => void) => void;
}

export class PortFailover {
  readonly #context: FailoverContext;
  readonly #polled = new Map<PathId, PolledPath>();
  readonly #left = new Map<PathId, LeftPath>();

  constructor(context: FailoverContext) {
    this.#context = context;
  }

  /** Paths that were left and not reclaimed, for a coordinator that takes over. */
  get left(): LeftPath[] {
    return [...this.#left.values()];
  }

  /** Carries out an order of the coordinator. Resolves when the workers have carried out every order so far. */
  async execute(order: PathOrder): Promise<void> {
    switch (order.kind) {
      case 'attach':
        this.#attach(order.path, order.key);
        break;
      case 'ready':
        this.#ready(order.path);
        break;
      case 'own':
        this.#own(order.path, order.reason, order.detectedNanos);
        break;
      case 'detach':
        this.#leave(order.path, order.reason, order.detectedNanos);
        break;
      case 'reclaim':
        await this.#reclaim(order.path);
        break;
      case 'settle':
    }
    await this.#context.ownership.settled();
  }

  /** Links have changed, or messages about them were lost. */
  linksRead({ links, lost }: Reading): void {
    const now = nowNanos();
    for (const path of ORDER) {
      const polled = this.#polled.get(path);
      if (polled === undefined) continue;
      if (lost) polled.loss = undefined; // the coordinator reads all links then
      const link = links.get(polled.key);
      if (link !== undefined) this.#linkRead(path, polled, link, now);
    }
  }

  /** A worker rang: it acknowledges an order, or a kick failed before rtnetlink said why, or it doubts a link. */
  checkWorkers(): void {
    const { attempt, ownership } = this.#context;
    ownership.check();
    for (const path of ORDER) this.#checkKicks(path);
    for (const path of ORDER) attempt('querying a link', () => this.#checkDoubt(path));
  }

  /** See `Ownership.abandon`. */
  abandon(queue: number): void {
    this.#context.ownership.abandon(queue);
  }

  #attach(path: PathId, key: number): void {
    const left = this.#left.get(path);
    if (left !== undefined) this.#context.tell({ kind: 'left', ...left }); // to be closed and reclaimed first
    if (left !== undefined || this.#polled.has(path)) return;
    this.#polled.set(path, { key, ready: false, loss: undefined });
    void this.#context.ownership.attach(path);
  }

  #ready(path: PathId): void {
    const polled = this.#polled.get(path);
    if (polled === undefined) return;
    polled.ready = true;
    if (polled.loss !== undefined) this.#lose(path, polled.loss); // its message came just before
    this.#checkKicks(path);
  }

  #own(path: PathId, reason: Reason, detectedNanos: number): void {
    if (path !== Path.NONE && !this.#polled.has(path)) return;
    void this.#context.ownership.setOwner(path, reason, detectedNanos);
  }

  /**
   * The path is not attached again before every worker has carried this out: an order to reclaim stays until then, and a
   * worker that has carried it out must not find it once more when it polls the path. Of several that coordinators have
   * ordered one after the other, the last one counts.
   */
  async #reclaim(path: PathId): Promise<void> {
    const { ownership, port } = this.#context;
    this.#leave(path, 'path failed', nowNanos());
    const unknown = { port, path, reason: 'coordinator replaced', kickErrno: 0 } as const;
    const left: LeftPath = { ...unknown, ...this.#left.get(path) };
    this.#left.set(path, left);
    await ownership.settled(); // a worker that finds both in one order reclaims before it leaves
    await ownership.reclaim(path);
    if (this.#left.get(path) === left) this.#left.delete(path);
  }

  #linkRead(path: PathId, polled: PolledPath, link: LinkState, now: number): void {
    polled.loss = link.gone ? 'link gone' : unusable(path, link);
    const reason = link.wentDown && !link.gone ? 'link down' : polled.loss;
    if (reason === undefined || (isLinkLoss(reason) && waitsForLink({ path, ready: polled.ready }))) return;
    this.#lose(path, reason, now);
  }

  #checkKicks(path: PathId): void {
    if (this.#polled.get(path)?.ready !== true) return;
    const { memory, port } = this.#context;
    for (let queue = 0; queue < memory.layout.geometry.queues; queue++) {
      const errno = Atomics.load(memory.words, memory.queue(port, queue).kickErrnoAt(path));
      if (errno === 0) continue;
      this.#lose(path, 'kick failed', nowNanos(), errno);
      return;
    }
  }

  /**
   * A zero-copy driver says that it is down while another process holds RTNL, which the coordinator's question would wait
   * for. All other questions are the coordinator's.
   */
  #checkDoubt(path: PathId): void {
    const { memory, port, isRunning, tell } = this.#context;
    const polled = this.#polled.get(path);
    if (polled?.ready !== true || !isDoubted(memory, port, path)) return;
    const runs = this.#driverReads(path) ? isRunning(polled.key) : undefined;
    if (runs === undefined) tell({ kind: 'doubted', port });
    else if (runs) answerLinked(memory, port, path);
    else this.#lose(path, 'kick failed'); // tried again after a pause, while the device exists
  }

  /** Leaves a path by itself, now. */
  #lose(path: PathId, reason: Reason, detectedNanos = nowNanos(), kickErrno = 0): void {
    this.#leave(path, reason, detectedNanos, kickErrno);
    this.#context.tell({ kind: 'left', ...this.#left.get(path)! });
  }

  /** Orders the workers off a path, and onto another one if it owned the queues. */
  #leave(path: PathId, reason: Reason, detectedNanos: number, kickErrno = 0): void {
    const { attempt, ownership, port } = this.#context;
    const polled = this.#polled.get(path);
    if (polled === undefined) return;
    // Whatever fails here, the order follows: frames of a path that workers still poll must not be reclaimed.
    attempt('querying a link', () => this.#markStopped(path, polled.key, reason));
    this.#polled.delete(path);
    this.#left.set(path, { port, path, reason, kickErrno });
    const other = ORDER.find((one) => one !== Path.HOST && this.#polled.get(one)?.ready === true);
    const next = ownership.owner === path ? (other ?? Path.NONE) : ownership.owner;
    void ownership.detach(path, next, reason, detectedNanos);
  }

  /** If the kernel has stopped the device, or it is gone, its driver reads no more packets. */
  #markStopped(path: PathId, key: number, reason: Reason): void {
    if (!this.#driverReads(path)) return;
    // A device may be up again before its message is read.
    if (reason !== 'link gone' && !(reason === 'link down' && this.#context.isRunning(key) === false)) return;
    for (const slot of this.#slots(path)) if (slot.reader === Reader.DRIVER) slot.reader = Reader.STOPPED;
  }

  #driverReads(path: PathId): boolean {
    return this.#slots(path).some(({ reader }) => reader === Reader.DRIVER);
  }

  #slots(path: PathId): { reader: number }[] {
    const { memory, port } = this.#context;
    const { queues } = memory.layout.geometry;
    return Array.from({ length: queues }, (_, queue) => memory.slot({ port, queue, path }));
  }
}
