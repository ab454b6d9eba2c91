/**
 * The transmit side of a path that has fewer queues than the port: hands each packet to the worker whose path queue sends
 * it. It receives no packets: that worker hands them over.
 *
 * Its frames are in the handoff ring, and then that worker's, so this queue counts none. Worker only.
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
  /** To the other workers, by number; undefined for the worker itself. */
  readonly handoffs: readonly (HandoffSender | undefined)[];
  /** Publishes the staged packets and wakes the receivers. */
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
  /** The block of the queue whose worker sends. */
  readonly #server: QueueBlock;
  readonly #doubles: Float64Array;
  readonly #handedOver: number;
  /** The order to leave this path, and the cursor of the handoff ring when it came. */
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
   * Whether the other worker has sent the packets that it was handed: it has left the path too, and so has moved waiting
   * packets to the next path. Packets that other ports forward meanwhile are not waited for.
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
