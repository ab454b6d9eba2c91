/**
 * Orders to the workers of one port: who transmits, which paths are polled, which may be reclaimed.
 *
 * An order is one word per queue, stored at once for all queues; the worker acknowledges by storing the
 * same word. Epochs count up, so an acknowledgement of a later order also answers the earlier ones. A
 * reclaim that no worker has acknowledged yet stays in every later order. Coordinator thread only.
 */
import { ringDoorbell } from '../kernel/doorbell.ts';
import type { Shim } from '../kernel/shim.ts';
import {
  ownerAttached,
  ownerEpoch,
  ownerPath,
  ownerReclaim,
  ownerWord,
  pathBit,
} from '../memory/bit-fields.ts';
import type { QueueBlock } from '../memory/blocks.ts';
import type { Failover, Journal, Reason } from '../memory/journal.ts';
import { PATH_NAMES, Path, type PathId } from '../memory/layout.ts';
import { type Memory, nowNanos } from '../memory/shared.ts';

/** The start of a failover, to be written to the journal when the workers have carried it out. */
interface Pending {
  readonly epoch: number;
  readonly from: PathId;
  readonly to: PathId;
  readonly reason: Reason;
  readonly detectedNanos: number;
  readonly orderedNanos: number;
  /** Queues whose record is still to be written. */
  readonly queues: Set<number>;
}

interface Waiter {
  readonly epoch: number;
  readonly resolve: () => void;
}

/** Epochs have 24 bits; b is not before a if the difference is in the lower half. */
const reached = (a: number, b: number): boolean => ((b - a) & 0xffffff) < 0x800000;

export class Ownership {
  readonly #shim: Shim;
  readonly #memory: Memory;
  readonly #journal: Journal;
  readonly #port: number;
  readonly #switched: (failover: Failover) => void;
  #epoch = 0;
  #owner: PathId = Path.NONE;
  #attached = 0;
  #reclaim = 0;
  readonly #abandoned = new Set<number>();
  #waiters: Waiter[] = [];
  #pending: Pending[] = [];

  constructor(
    shim: Shim,
    memory: Memory,
    journal: Journal,
    port: number,
    switched: (failover: Failover) => void,
  ) {
    this.#shim = shim;
    this.#memory = memory;
    this.#journal = journal;
    this.#port = port;
    this.#switched = switched;
  }

  /** Goes on from another coordinator's last order, which may have reached some of the queues only. */
  resume(): void {
    const { words, layout } = this.#memory;
    const queues = Array.from({ length: layout.geometry.queues }, (_, queue) => queue);
    const at = (queue: number): number => this.#block(queue).at('owner');
    const last = queues
      .map((queue) => Atomics.load(words, at(queue)))
      .reduce((a, b) => (reached(ownerEpoch(a), ownerEpoch(b)) ? b : a));
    this.#epoch = ownerEpoch(last);
    this.#owner = ownerPath(last);
    this.#attached = ownerAttached(last);
    this.#reclaim = ownerReclaim(last);
    const now = nowNanos();
    for (const queue of queues) {
      Atomics.store(words, at(queue), last);
      ringDoorbell(this.#shim, this.#memory, queue);
      const from = this.#journal.pathOf(this.#port, queue);
      if (from === this.#owner) continue; // as the journal says
      this.#pending.push({
        ...{ epoch: this.#epoch, from, to: this.#owner, reason: 'coordinator replaced' },
        ...{ detectedNanos: now, orderedNanos: now, queues: new Set([queue]) },
      });
    }
  }

  get owner(): PathId {
    return this.#owner;
  }

  isAttached(path: PathId): boolean {
    return (this.#attached & pathBit(path)) !== 0;
  }

  /** Has the workers poll one more path. */
  attach(path: PathId): Promise<void> {
    this.#attached |= pathBit(path);
    return this.#order();
  }

  /** Has the workers transmit by `path`, which is attached. */
  setOwner(path: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    return this.#switch(path, reason, detectedNanos);
  }

  /** Has the workers let go of `gone` and transmit by `next`, all in one order. */
  detach(gone: PathId, next: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    this.#attached &= ~pathBit(gone);
    return this.#switch(next, reason, detectedNanos);
  }

  /** Has the workers take back the frames of a path whose kernel objects are closed. */
  reclaim(path: PathId): Promise<void> {
    this.#reclaim |= pathBit(path);
    return this.#order();
  }

  /** Everything ordered so far is carried out. */
  settled(): Promise<void> {
    return this.#acknowledged(this.#epoch);
  }

  /** The queue's worker is dead and none will follow: nobody is left who could touch what an order frees. */
  abandon(queue: number): void {
    this.#abandoned.add(queue);
    this.#acknowledgeFor(queue);
    this.check();
  }

  /** Looks for acknowledgements. Called when a worker rang. */
  check(): void {
    const { queues } = this.#memory.layout.geometry;
    let last = this.#epoch;
    for (let queue = 0; queue < queues; queue++) {
      const ack = this.#ack(queue);
      if (!reached(last, ownerEpoch(ack))) last = ownerEpoch(ack);
      this.#record(queue, ownerEpoch(ack));
    }
    for (const waiter of this.#waiters) if (reached(waiter.epoch, last)) waiter.resolve();
    this.#waiters = this.#waiters.filter((waiter) => !reached(waiter.epoch, last));
  }

  #switch(next: PathId, reason: Reason, detectedNanos: number): Promise<void> {
    const from = this.#owner;
    this.#owner = next;
    const orderedNanos = nowNanos();
    const done = this.#order();
    if (from !== next) {
      const { queues } = this.#memory.layout.geometry;
      const all = new Set(Array.from({ length: queues }, (_, queue) => queue));
      this.#pending.push({
        epoch: this.#epoch,
        from,
        to: next,
        reason,
        detectedNanos,
        orderedNanos,
        queues: all,
      });
    }
    return done;
  }

  #order(): Promise<void> {
    const { queues } = this.#memory.layout.geometry;
    const { words } = this.#memory;
    this.#epoch = (this.#epoch + 1) & 0xffffff;
    const word = ownerWord(this.#epoch, this.#owner, this.#attached, this.#reclaim);
    for (let queue = 0; queue < queues; queue++) {
      Atomics.store(words, this.#block(queue).at('owner'), word);
    }
    for (let queue = 0; queue < queues; queue++) ringDoorbell(this.#shim, this.#memory, queue);
    for (const queue of this.#abandoned) this.#acknowledgeFor(queue);
    return this.#acknowledged(this.#epoch);
  }

  #acknowledgeFor(queue: number): void {
    const { words } = this.#memory;
    const block = this.#block(queue);
    Atomics.store(words, block.at('ack'), Atomics.load(words, block.at('owner')));
  }

  #acknowledged(epoch: number): Promise<void> {
    const promise = new Promise<void>((resolve) => this.#waiters.push({ epoch, resolve }));
    this.check();
    return promise.then(() => {
      const { queues } = this.#memory.layout.geometry;
      let common = this.#reclaim;
      for (let queue = 0; queue < queues; queue++) common &= ownerReclaim(this.#ack(queue));
      this.#reclaim &= ~common; // every worker has done these
    });
  }

  #ack(queue: number): number {
    return Atomics.load(this.#memory.words, this.#block(queue).at('ack'));
  }

  #block(queue: number): QueueBlock {
    return this.#memory.queue(this.#port, queue);
  }

  /** Writes the journal for what this queue has carried out. */
  #record(queue: number, epoch: number): void {
    const { switchBegan, switchEnded, drained, rescued } = this.#block(queue);
    for (const pending of this.#pending) {
      if (!pending.queues.has(queue) || !reached(pending.epoch, epoch)) continue;
      pending.queues.delete(queue);
      const failover = this.#journal.append({
        port: this.#port,
        queue,
        from: PATH_NAMES[pending.from],
        to: PATH_NAMES[pending.to],
        reason: pending.reason,
        detectedNanos: pending.detectedNanos,
        orderedNanos: pending.orderedNanos,
        beganNanos: switchBegan,
        endedNanos: switchEnded,
        drained,
        rescued,
      });
      this.#switched(failover);
    }
    this.#pending = this.#pending.filter((pending) => pending.queues.size > 0);
  }
}
