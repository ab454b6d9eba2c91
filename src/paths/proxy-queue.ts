/**
 * The sending half of a path that has fewer queues than the port: hands each packet to the worker whose
 * path queue sends it. Nothing arrives by it; what the path receives is handed over by that worker.
 *
 * Its frames are in the lane, and afterwards that worker's: so this counts none. Worker only.
 */
import { queueCounters } from '../memory/counters.ts';
import type { PathLedger } from '../memory/frames.ts';
import { holderTag } from '../memory/holder.ts';
import type { LaneSender } from '../memory/lane.ts';
import type { PathId, QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { LaneKind } from '../memory/words.ts';
import { NO_ARRIVALS, type PathQueue } from './path.ts';

export class ProxyQueue implements PathQueue {
  readonly path: PathId;
  readonly tag: number;
  readonly fd = NO_ARRIVALS;
  readonly backlog = false;
  readonly #lane: LaneSender;
  readonly #publish: () => void;
  readonly #doubles: Float64Array;
  readonly #handedOver: number;
  #marked = 0;

  /** @param publish commits the lane and wakes its receiver */
  constructor(memory: Memory, { port, queue, path }: QueueAddress, lane: LaneSender, publish: () => void) {
    this.path = path;
    this.tag = holderTag(queue, port, path);
    this.#lane = lane;
    this.#publish = publish;
    this.#doubles = memory.doubles;
    this.#handedOver = queueCounters(memory, port, queue).handedOver;
  }

  /** The worker that sends. */
  get server(): number {
    return this.#lane.to;
  }

  /** This path is to be left: what has been pushed until now is waited for. */
  mark(): void {
    this.#marked = this.#lane.cursor;
  }

  /** Whether packets from before the mark lie in the lane. What other ports forward meanwhile is not waited for. */
  get waiting(): boolean {
    return !this.#lane.hasPassed(this.#marked);
  }

  ready(): number {
    return 0;
  }

  receive(): number {
    return 0;
  }

  release(): void {}

  room(wanted: number): number {
    return this.#lane.room(wanted);
  }

  push(offset: number, bytes: number): void {
    this.#lane.push(offset, bytes, LaneKind.SEND, this.path, 0);
    this.#doubles[this.#handedOver]!++;
  }

  flush(): number {
    if (this.#lane.staged > 0) this.#publish();
    return 0;
  }

  complete(): void {}

  refill(): void {}

  inFlight(): number {
    return this.#lane.pending();
  }

  takeBack(): number {
    return 0;
  }

  ledger(): PathLedger {
    return { fill: 0, rx: 0, tx: 0, completing: 0 };
  }

  enumerate(): void {}

  detach(): void {}
}
