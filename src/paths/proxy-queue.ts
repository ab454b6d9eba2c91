/**
 * The sending half of a path that has fewer queues than the port: hands each packet to the worker whose
 * path queue sends it. Nothing arrives by it; what the path receives is handed over by that worker.
 *
 * Its frames are in the handoff ring, and afterwards that worker's: so this counts none. Worker only.
 */

import { HandoffKind, ownerTag } from '../memory/bit-fields.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import { queueCounters } from '../memory/counters.ts';
import type { PathLedger } from '../memory/frame-owners.ts';
import type { HandoffSender } from '../memory/handoff.ts';
import type { PathId, QueueAddress } from '../memory/layout.ts';
import type { Memory } from '../memory/shared.ts';
import { type AttachedPath, type AttachedTransmitter, NO_ARRIVALS } from './attached-path.ts';
import type { Receiver } from './path.ts';

/** The handoff rings out of a worker, for one port. */
export interface HandoffRings {
  /** To the other workers, by number; none to oneself. */
  readonly handoffs: readonly (HandoffSender | undefined)[];
  /** Publishes what is staged in them and tells the receivers. */
  commit(): void;
}

export class ProxyQueue implements AttachedPath, Receiver, AttachedTransmitter {
  readonly path: PathId;
  readonly tag: number;
  readonly fd = NO_ARRIVALS;
  readonly rx: Receiver = this;
  readonly tx: AttachedTransmitter = this;
  readonly backlog = false;
  readonly #handoffs: HandoffRings;
  readonly #handoff: HandoffSender;
  /** Of the queue whose worker sends. */
  readonly #server: QueueBlock;
  readonly #doubles: Float64Array;
  readonly #handedOver: number;
  /** The order to leave this path, and how far the handoff ring had been filled when it came. */
  #order = 0;
  #marked = 0;

  /** @param server queue whose worker sends */
  constructor(memory: Memory, { port, queue, path }: QueueAddress, handoffs: HandoffRings, server: number) {
    this.path = path;
    this.tag = ownerTag(queue, port, path);
    this.#handoffs = handoffs;
    this.#handoff = handoffs.handoffs[server]!;
    this.#server = memory.queue(port, server);
    this.#doubles = memory.doubles;
    this.#handedOver = queueCounters(memory, port, queue).handedOver;
  }

  ready(): number {
    return 0;
  }

  receive(): number {
    return 0;
  }

  release(): void {}

  room(wanted: number): number {
    return this.#handoff.room(wanted);
  }

  push(offset: number, bytes: number): void {
    this.#handoff.push(offset, bytes, HandoffKind.SEND, this.path, 0);
    this.#doubles[this.#handedOver]!++;
  }

  flush(): number {
    if (this.#handoff.staged > 0) this.#handoffs.commit();
    return 0;
  }

  complete(): void {}

  refill(): void {}

  /**
   * Whether what was given to the other worker is on its way: it has left the path too, and so has put what waited there
   * on the one that follows. What other ports forward meanwhile is not waited for.
   */
  settled(order: number): boolean {
    if (order !== this.#order) {
      this.#order = order;
      this.#marked = this.#handoff.cursor;
    }
    this.flush();
    if (!this.#handoff.hasPassed(this.#marked)) return false;
    return Atomics.load(this.#server.words, this.#server.at('ack')) === order;
  }

  reclaimUnsent(): number {
    return 0;
  }

  ledger(): PathLedger {
    return { fill: 0, rx: 0, tx: 0, completing: 0 };
  }

  enumerate(): void {}

  detach(): void {}
}
